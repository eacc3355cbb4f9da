"""What models see in production is what they were trained on, bit for bit.

``SENTINEL_DATA`` names the folder with ``transactions.parquet``.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from sentinel.dataset import load_description
from sentinel.table import LabelledTable, read_table
from tests.redis.server import RedisServer
from tests.serve.conftest import write_pair_config
from tests.serve.serving import Served, script, sentinel_serve
from tests.skew.replay import Replay, compare

KILL_AT = 400


@pytest.fixture(scope="session")
def data() -> str:
    folder = os.environ.get("SENTINEL_DATA")
    if not folder:
        pytest.fail("SENTINEL_DATA is not set; it names the folder of the real tables")
    return f"{folder}/transactions.parquet"


@pytest.fixture(scope="session")
def bundle(data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Trained on a week, with the profiles at its end."""
    out = str(tmp_path_factory.mktemp("skew") / "bundle")
    command = [script("sentinel"), "train", "--data", data, "--dataset", "transactions"]
    subprocess.run([*command, "--from", "2018-06-20", "--until", "2018-06-27", "--out", out],
                   check=True)  # fmt: skip
    return out


@pytest.fixture(scope="session")
def month(data: str) -> LabelledTable:
    """The thirty days after that week."""
    return read_table(data, load_description("transactions"), "2018-06-27", "2018-07-27")


@contextmanager
def two_routers(bundle: str, folder: Path, profiles: str | None) -> Iterator[Served]:
    config = write_pair_config(folder, bundle)
    content = yaml.safe_load(config.read_text())
    (folder / "features").mkdir()
    content["applications"][0]["args"] = {"feature_log": str(folder / "features")}
    config.write_text(yaml.safe_dump(content))
    where = () if profiles is None else ("--profiles", profiles)
    with sentinel_serve(bundle, folder, str(config), *where) as served:
        served.wait_for_replicas("FraudRouter", 2)
        yield served


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["memory", "redis"])
def test_features_online_are_those_offline(
    store: str, bundle: str, month: LabelledTable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if store == "memory":
        replay = replayed(bundle, month, tmp_path, None)
    else:
        server = RedisServer(tmp_path).start()
        try:
            replay = replayed(bundle, month, tmp_path, server.uri)
        finally:
            server.stop()
    skew = compare(tmp_path / "features", replay, bundle)
    with capfd.disabled():
        print(
            f"\n{store}: {skew.rows:,} rows in {replay.requests:,} requests, {replay.sent_again} "
            f"sent again after a router was killed; {skew.differing:,} rows differ, all of them "
            f"but {skew.unexplained} at a terminal with one of {len(replay.late)} labels that came "
            f"later than the delay"
        )
    assert skew.rows == len(month)
    assert skew.unexplained == 0
    assert skew.differing > 0, "a label that comes too late must show"
    assert all(name.startswith("terminal_id_") for name in skew.columns)


def replayed(bundle: str, month: LabelledTable, folder: Path, profiles: str | None) -> Replay:
    with two_routers(bundle, folder, profiles) as served:
        replay = Replay(served, month, KILL_AT)
        replay.run()
        # HAProxy may have turned to the other router before any request was lost.
        routers = served.wait_for_replicas("FraudRouter", 2)
        assert replay.killed, "no router was killed"
        assert replay.killed not in routers
        return replay
