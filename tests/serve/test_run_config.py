"""Plain ``serve run`` with the shipped config, here for the other shipped dataset."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from sentinel.bundle import open_bundle, write_bundle
from tests.serve.serving import (
    Row,
    Served,
    Stage,
    assert_same_answer,
    free_port,
    offline,
    serve_run,
)

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"


@pytest.fixture
def running(
    stage: Stage, creditcard_bundle: str, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """``serve run config.yaml`` in no special environment, with a bundle that lies at a relative
    path, and another port."""

    @contextmanager
    def start() -> Iterator[Served]:
        folder = tmp_path_factory.mktemp("run")
        shutil.copytree(creditcard_bundle, folder / "bundles" / "cards")
        config = yaml.safe_load(CONFIG.read_text())
        port = config["http_options"]["port"] = free_port()
        for deployment in config["applications"][0]["deployments"]:
            deployment["user_config"] = {"bundle": "bundles/cards"}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        with serve_run(folder / "config.yaml", str(folder / "bundles" / "cards"), port) as served:
            yield served

    return stage.get("run", start)


@pytest.fixture(scope="module")
def cards(creditcard_file: Path) -> list[Row]:
    table = pq.read_table(creditcard_file).drop_columns(["Class"]).slice(0, 100)
    return [{"transaction_id": f"t{at}", **row} for at, row in enumerate(table.to_pylist())]


def test_serve_run_answers_like_offline_scoring(running: Served, cards: list[Row]) -> None:
    (expected,) = offline(running.bundle, cards[:1])
    assert_same_answer(running.predict(cards[0]), expected, 1e-9)
    answers = running.predict_batch(cards)["results"]
    for got, wanted in zip(answers, offline(running.bundle, cards), strict=True):
        assert_same_answer(got, wanted, 1e-6)


def test_its_api_describes_the_fields_of_the_other_dataset(running: Served) -> None:
    document = running.client.get("/openapi.json").json()
    fields = document["components"]["schemas"]["Transaction"]["properties"]
    assert set(fields) == {"transaction_id", "Amount"} | {f"V{at}" for at in range(1, 29)}


def test_a_lane_that_holds_another_bundle_is_named_and_its_scores_are_not_used(
    running: Served, cards: list[Row]
) -> None:
    """The last test here: afterwards the lanes disagree.

    Another bundle takes the place of the served one, and one lane dies and comes back with it.
    """
    served = open_bundle(running.bundle)
    other = served.manifest.model_copy(update={"seed": served.manifest.seed + 1})
    write_bundle(running.bundle, other, served.files)
    (victim,) = running.replicas("XGBoost")
    os.kill(victim, signal.SIGKILL)

    problem = running.client.get("/ready").json()
    deadline = time.monotonic() + 90
    while "do not hold" not in str(problem.get("missing")) and time.monotonic() < deadline:
        time.sleep(0.5)
        problem = running.client.get("/ready").json()
    assert problem["status"] == 503
    assert list(problem["missing"]) == ["xgboost"]
    assert served.digest in problem["detail"]

    answer = running.predict(cards[0])
    assert answer["degraded"]
    assert answer["fraud_probability"] is None
    assert answer["anomaly_score"] is not None
    assert answer["model_version"] == served.digest
    assert answer["decision"] == served.manifest.policy.fallback
