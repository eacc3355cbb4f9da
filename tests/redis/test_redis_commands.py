"""``sentinel profiles`` as a person or a script uses it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deployments.profile_commands import register
from sentinel.bundle import write_bundle
from sentinel.calibration import SigmoidCalibration
from sentinel.dataset import load_description
from sentinel.errors import SentinelError, UsageError
from sentinel.features import feature_set
from sentinel.manifest import (
    DataEntry,
    FileEntry,
    Manifest,
    ModelEntry,
    NoveltyEntry,
    ProfilesEntry,
)
from sentinel.profile_snapshot import snapshot
from sentinel.profile_store import Label, MemoryStore
from tests.redis.cases import HOUR, Payment, pay_in_memory
from tests.redis.server import RedisServer


class Outcome:
    """Exit code, output, and the one line of an error."""

    def __init__(self, arguments: Sequence[object]) -> None:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(lambda: None)
        register(app)
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        self.code = result.exit_code
        self.out = result.stdout
        self.error = result.exception
        if isinstance(result.exception, SentinelError):  # what ``sentinel.cli.main`` makes of it
            self.code = 2 if isinstance(result.exception, UsageError) else 1

    @property
    def json(self) -> dict[str, object]:
        assert self.code == 0, self.error
        read: dict[str, object] = json.loads(self.out)
        return read


def profiles(*arguments: object) -> Outcome:
    return Outcome(["profiles", *arguments])


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A snapshot that knows anna."""
    store = MemoryStore()
    pay_in_memory(store, *(Payment(f"t{n}", n * HOUR, amount=10 + n) for n in range(20)))
    store.label([Label("t3", True, 1)])
    file = tmp_path / "profiles.snapshot"
    file.write_bytes(snapshot(store))
    return file


@pytest.mark.parametrize("command", ["load", "dump", "show"])
def test_every_commands_help_shows_an_example(command: str) -> None:
    shown = profiles(command, "--help")
    assert shown.code == 0
    assert f"Example: sentinel profiles {command}" in " ".join(shown.out.split())


def test_loaded_shown_and_dumped_it_stays_the_same(
    server: RedisServer, packed: Path, tmp_path: Path
) -> None:
    loaded = profiles("load", "--snapshot", packed, "--profiles", server.uri, "--json").json
    assert loaded["entities"] == 2
    here = profiles("show", "customer_id=anna", "--profiles", packed, "--json").json
    there = profiles("show", "customer_id=anna", "--profiles", server.uri, "--json").json
    assert here == there
    assert (there["events"], there["known_frauds"]) == (20, 1)
    assert there["first"] == "2020-09-13T12:26:40+00:00"
    assert there["amount"] == {"sum": 390.0, "mean": 19.5, "largest": 29.0}
    out = tmp_path / "again.snapshot"
    assert profiles("dump", "--profiles", server.uri, "--out", out, "--json").json["bytes"]
    again = profiles("show", "customer_id=anna", "--profiles", out, "--json").json
    assert again == here


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> str:
    """A bundle with the profiles of ``packed``, and models that nobody asks here."""
    description = load_description("transactions")
    lanes = ("xgboost", "isolation_forest")
    manifest = Manifest(
        description=description,
        policy=description.policy,
        features=feature_set(description).names,
        models={lane: ModelEntry(file="models/none", trees=1, parameters={}) for lane in lanes},
        calibration=SigmoidCalibration(slope=1, intercept=0),
        novelty=NoveltyEntry(file="models/none", rows=1),
        profiles=ProfilesEntry(file="profiles", newest="2020-09-14T07:26:40Z", entities={}),
        data=DataEntry(sha256="", rows=20, frauds=1, first=None, last=None),
        seed=0,
        steps=(),
        quality={},
        versions={},
        files={name: FileEntry.of(b"") for name in ("models/none", "profiles")},
    )
    uri = str(tmp_path / "bundle")
    write_bundle(uri, manifest, {"models/none": b"", "profiles": packed.read_bytes()})
    return uri


def test_the_profiles_of_a_bundle_are_loaded_and_shown(server: RedisServer, bundle: str) -> None:
    loaded = profiles("load", "--bundle", bundle, "--profiles", server.uri, "--json")
    assert loaded.json["dataset"] == "transactions"
    here = profiles("show", "terminal_id=kiosk", "--profiles", bundle, "--json").json
    there = profiles("show", "terminal_id=kiosk", "--profiles", server.uri, "--json").json
    assert here == there
    assert here["events"] == 20


def test_a_fraud_analyst_reads_a_table(packed: Path) -> None:
    shown = profiles("show", "customer_id=anna", "--profiles", packed, "--last", 2)
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "transactions 20" in lines
    assert "known frauds 1" in lines
    assert "2020-09-14 07:26:40 29.00 1 0 0" in lines
    assert "2020-09-14 05:26:40 27.00 1 0 0" not in lines


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "anna", "--profiles", "SNAPSHOT"], 2, "as in customer_id=42"),
        (["show", "shop=1", "--profiles", "SNAPSHOT"], 2, "customer_id, terminal_id"),
        (["show", "shop=1", "--profiles", "REDIS"], 2, "customer_id, terminal_id"),
        (["show", "customer_id=ben", "--profiles", "SNAPSHOT"], 1, "nothing is known of"),
        (["show", "customer_id=ben", "--profiles", "REDIS"], 1, "nothing is known of"),
        (["show", "customer_id=ben", "--profiles", "nowhere"], 1, "there is no such file"),
        (["show", "customer_id=b", "--profiles", "redis://127.0.0.1:1"], 1, "redis://127.0.0.1:1"),
        (["load", "--profiles", "REDIS"], 2, "either --bundle or --snapshot"),
        (["load", "--profiles", "elsewhere", "--snapshot", "SNAPSHOT"], 2, "address of a Redis"),
        (["load", "--profiles", "REDIS", "--snapshot", __file__], 1, "no snapshot of profiles"),
        (["dump", "--profiles", "REDIS", "--out", "/nowhere/at/all"], 1, "cannot be written"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    server: RedisServer, packed: Path, arguments: list[str], code: int, said: str
) -> None:
    places = {"SNAPSHOT": str(packed), "REDIS": server.uri}
    outcome = profiles(*(places.get(each, each) for each in arguments))
    assert outcome.code == code
    assert said in str(outcome.error)
    assert "\n" not in str(outcome.error)


def test_the_commands_load_nothing_heavy_before_they_run() -> None:
    heavy = "{'numba', 'numpy', 'ray', 'redis', 'pyarrow'} & set(sys.modules)"
    code = f"import sys, deployments.profile_commands; print({heavy})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
