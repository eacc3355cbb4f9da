"""Real services for the tests that ask them, one at a time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from loadtest.serve_configs import fixed
from serve_app.keys import add_key
from tests.serve.serving import Row, Served, Stage, sentinel_serve

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Where one service after the other runs."""
    running = Stage()
    yield running
    running.clear()


@pytest.fixture
def served(stage: Stage, plain_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """``sentinel serve`` with the plain bundle and the shipped config."""
    return stage.get(
        "served",
        lambda: sentinel_serve(
            plain_bundle, tmp_path_factory.mktemp("served"), "--bundle", plain_bundle
        ),
    )


@pytest.fixture
def one_of_each(
    stage: Stage, plain_bundle: str, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """``sentinel serve`` with the plain bundle and one replica of everything, whatever the load."""

    def start() -> AbstractContextManager[Served]:
        folder = tmp_path_factory.mktemp("one_of_each")
        return sentinel_serve(plain_bundle, folder, str(fixed(folder)), "--bundle", plain_bundle)

    return stage.get("one_of_each", start)


@pytest.fixture
def together(stage: Stage, plain_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """``sentinel serve`` with the plain bundle, its models in the router's process."""
    arguments = ("--bundle", plain_bundle, "--placement", "together")
    return stage.get(
        "together",
        lambda: sentinel_serve(plain_bundle, tmp_path_factory.mktemp("together"), *arguments),
    )


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``pair``: its config, its keys, its log."""
    return tmp_path_factory.mktemp("pair")


@pytest.fixture
def pair(stage: Stage, plain_bundle: str, pair_folder: Path) -> Served:
    """``sentinel serve`` with keys and two replicas of everything, started with SIGINT ignored; its
    config names the bundle."""

    def start() -> AbstractContextManager[Served]:
        write_pair_config(pair_folder, plain_bundle)
        keys = pair_folder / "keys.yaml"
        keys.unlink(missing_ok=True)
        key = add_key(keys, "tests", ("score", "read"))
        arguments = (str(pair_folder / "config.yaml"), "--api-keys", str(keys))
        return sentinel_serve(plain_bundle, pair_folder, *arguments, key=key, deaf=True)

    return stage.get("pair", start)


def write_pair_config(folder: Path, bundle: str) -> Path:
    """The shipped config with what a place may lay over it."""
    config = yaml.safe_load(CONFIG.read_text())
    for deployment in config["applications"][0]["deployments"]:
        if "autoscaling_config" in deployment:
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
        deployment["ray_actor_options"]["num_cpus"] = 0.1
        deployment["user_config"] = {"bundle": bundle}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(scope="session")
def rows(transactions_file: Path) -> list[Row]:
    """Some 1,000 transactions as a payment service would post them."""
    table = pq.read_table(transactions_file).slice(0, 1_000)
    return [
        {
            "transaction_id": str(row["transaction_id"]),
            "timestamp": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "customer_id": str(row["customer_id"]),
            "terminal_id": str(row["terminal_id"]),
            "amount": row["amount"],
        }
        for row in table.to_pylist()
    ]
