"""The commit that brings a bundle to the cluster, in a real repository."""

import json
import re
import subprocess
from pathlib import Path
from shutil import copytree

import pytest
import yaml

from ray_cluster.promote import promote, with_bundle
from sentinel.bundle import open_bundle
from sentinel.errors import BundleError, SentinelError, UsageError
from tests.training.test_commands import sentinel

VALUES = """# Production.
argocd: {hooks: true}

bundle:   # what a promotion changes
  uri: s3://models/first   # a place of its own
  digest: ""

image: {tag: 0.1.0}   # after it
"""


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """A values file in a repository of its own."""
    file = tmp_path / "repo" / "deploy" / "production.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(VALUES)
    git(file, "init", "--quiet", "--initial-branch", "main", "..")
    git(file, "config", "user.name", "A person")
    git(file, "config", "user.email", "person@example.com")
    git(file, "add", ".")
    git(file, "commit", "--quiet", "--message", "Begin")
    return file


def git(file: Path, *arguments: str) -> str:
    command = ["git", "-C", str(file.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def refusal(bundle: str, values: Path) -> str:
    """Why nothing was committed; and nothing was."""
    with pytest.raises(SentinelError) as error:
        promote(bundle, values)
    assert git(values, "branch", "--format", "%(refname:short)") == "main"
    assert git(values, "worktree", "list").count("\n") == 0
    return str(error.value)


def test_a_promotion_is_one_commit_that_changes_the_bundle_alone(
    values: Path, plain_bundle: str
) -> None:
    digest = open_bundle(plain_bundle).digest
    done = promote(plain_bundle, values)
    assert (done.branch, done.before) == (f"promote/{digest[:12]}", "s3://models/first")
    after = git(values, "show", f"{done.branch}:deploy/production.yaml") + "\n"
    assert after == VALUES.replace("s3://models/first", json.dumps(plain_bundle)).replace(
        'digest: ""', f'digest: "{digest}"'
    )
    assert git(values, "rev-parse", f"{done.branch}~1") == git(values, "rev-parse", "main")


def test_whoever_promotes_keeps_their_checkout_as_it_is(values: Path, plain_bundle: str) -> None:
    promote(plain_bundle, values)
    assert (values.read_text(), git(values, "branch", "--show-current")) == (VALUES, "main")
    assert git(values, "status", "--porcelain") == ""


def test_the_message_has_the_model_cards_figures(values: Path, plain_bundle: str) -> None:
    bundle = open_bundle(plain_bundle)
    message = git(values, "log", "-1", "--format=%B", promote(plain_bundle, values).branch)
    together = bundle.manifest.quality["together"]["average_precision"]
    figure = "average precision {value:.4g} [{low:.4g}, {high:.4g}]".format(**together)
    rows = f"{bundle.manifest.data.rows:,} rows"
    for part in (f"Promote bundle {bundle.digest[:12]}", bundle.digest, figure, rows):
        assert part in message


def test_a_revert_of_the_merge_brings_the_bundle_before_back(
    values: Path, plain_bundle: str
) -> None:
    done = promote(plain_bundle, values)
    git(values, "merge", "--quiet", "--no-ff", "--message", "Merge", done.branch)
    assert yaml.safe_load(values.read_text())["bundle"]["uri"] == plain_bundle
    git(values, "revert", "--no-edit", "--mainline", "1", "HEAD")
    assert values.read_text() == VALUES


def test_uncommitted_changes_are_refused(values: Path, plain_bundle: str) -> None:
    values.write_text(VALUES + "workers: {minReplicas: 3}\n")
    assert "uncommitted changes (deploy/production.yaml)" in refusal(plain_bundle, values)


def test_a_bundle_that_cannot_be_read_is_refused(
    values: Path, plain_bundle: str, tmp_path: Path
) -> None:
    assert "there is no bundle" in refusal(str(tmp_path / "none"), values)
    broken = Path(copytree(plain_bundle, tmp_path / "broken"))
    next(broken.rglob("*.ubj")).unlink()
    with pytest.raises(BundleError, match="is missing"):
        promote(str(broken), values)


def test_the_bundle_that_is_there_already_is_refused(
    values: Path, plain_bundle: str, tmp_path: Path
) -> None:
    git(values, "merge", "--quiet", promote(plain_bundle, values).branch)
    git(values, "branch", "--delete", f"promote/{open_bundle(plain_bundle).digest[:12]}")
    assert "which the values name already" in refusal(plain_bundle, values)
    elsewhere = copytree(plain_bundle, tmp_path / "elsewhere")
    assert "which the values name already" in refusal(str(elsewhere), values)


def test_a_bundle_that_was_written_over_is_refused(
    values: Path, plain_bundle: str, tmp_path: Path
) -> None:
    place = str(copytree(plain_bundle, tmp_path / "place"))
    done = promote(place, values)
    manifest = tmp_path / "place" / "manifest.json"
    git(values, "merge", "--quiet", done.branch)
    git(values, "branch", "--delete", done.branch)
    manifest.write_text(re.sub(r'"seed": \d+', '"seed": 999', manifest.read_text()))
    assert "a revert could not come back" in refusal(place, values)


def test_a_commit_that_git_refuses_leaves_no_branch(values: Path, plain_bundle: str) -> None:
    hook = values.parent.parent / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not on a Friday >&2; exit 1\n")
    hook.chmod(0o755)
    assert "not on a Friday" in refusal(plain_bundle, values)


def test_values_that_name_no_bundle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no bundle\.uri and bundle\.digest"):
        with_bundle("bundle: {uri: a}\n", "b", "c", "values.yaml")


def test_the_command_says_what_it_did(values: Path, plain_bundle: str) -> None:
    done = sentinel("cluster", "promote", "--bundle", plain_bundle, "--values", values, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["digest"] == open_bundle(plain_bundle).digest
