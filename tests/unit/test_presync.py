"""What may not reach the cluster: found by loading what replicas would load."""

from pathlib import Path
from shutil import copytree

import pytest

from ray_cluster.presync import CommitRefused, check_commit
from sentinel.bundle import open_bundle

SERVE = Path("serve_app/config.yaml").read_text()


def copy_of(bundle: str, to: Path) -> Path:
    return Path(copytree(bundle, to / "bundle"))


def test_a_good_commit_is_described(plain_bundle: str) -> None:
    digest = open_bundle(plain_bundle).digest
    found = check_commit(plain_bundle, digest, SERVE)
    assert (found.bundle, found.digest, found.dataset) == (plain_bundle, digest, "transactions")


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommitRefused, match=f"{tmp_path}/none: there is no bundle"):
        check_commit(f"{tmp_path}/none", "f" * 64, SERVE)


def test_another_bundle_than_the_commit_says_is_refused(plain_bundle: str) -> None:
    with pytest.raises(CommitRefused, match=f"expected {'f' * 64}"):
        check_commit(plain_bundle, "f" * 64, SERVE)


def test_a_commit_that_pins_nothing_is_refused(plain_bundle: str) -> None:
    with pytest.raises(CommitRefused, match="a commit pins what it brings"):
        check_commit(plain_bundle, "", SERVE)


def test_a_changed_file_is_named(plain_bundle: str, tmp_path: Path) -> None:
    bundle, digest = copy_of(plain_bundle, tmp_path), open_bundle(plain_bundle).digest
    model = next(file for file in bundle.rglob("*.ubj"))
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(CommitRefused, match=f"{model.name} was changed"):
        check_commit(str(bundle), digest, SERVE)


def test_a_bundle_of_a_newer_schema_is_refused(plain_bundle: str, tmp_path: Path) -> None:
    bundle = copy_of(plain_bundle, tmp_path)
    manifest = bundle / "manifest.json"
    newer = manifest.read_text().replace('"schema_version": 1', '"schema_version": 99')
    manifest.write_text(newer)
    with pytest.raises(CommitRefused, match="upgrade SentinelStream to read it"):
        check_commit(str(bundle), "f" * 64, SERVE)


def test_a_serve_config_that_serve_would_not_run_is_refused(plain_bundle: str) -> None:
    digest = open_bundle(plain_bundle).digest
    misspelt = SERVE.replace("max_ongoing_requests: 8192", "max_replica: 3")
    with pytest.raises(CommitRefused, match=r"deployments\.0\.max_replica: no such key"):
        check_commit(plain_bundle, digest, misspelt)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(CommitRefused) as error:
        check_commit(f"{tmp_path}/none", "f" * 64, "{: no yaml")
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "bundle.uri",
        "serveConfigV2",
    ]
