"""Profiles in the running service: the past counts, once, and survives what may happen."""

import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from sentinel.answers import answers
from sentinel.bundle import open_bundle
from sentinel.history import History, history_of
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline
from tests.serve.serving import Row, Served, Stage, assert_same_answer, sentinel_serve

TOLERANCE = 1e-6


class Offline:
    """What offline scoring says of rows that come one after the other."""

    def __init__(self, bundle: str) -> None:
        self._opened = open_bundle(bundle)
        self._judge, self._lanes = self._opened.judge(), self._opened.lanes()
        history = history_of(self._opened)
        assert history is not None
        self.history: History = history

    def answer(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        parsed = JsonParser(self._judge.description).many(msgspec.json.encode(rows))
        transactions = parsed.all_or_raise()
        behaviour = self.history.note(transactions)
        decisions = score_offline(self._judge, self._lanes, transactions, behaviour)
        return msgspec.to_builtins(answers(decisions))


@pytest.fixture(scope="module")
def later(rows: list[Row]) -> list[Row]:
    """Rows that come after all that the bundle's profiles know."""

    def moved(row: Row) -> Row:
        when = datetime.fromisoformat(row["timestamp"]) + timedelta(days=40)
        name = f"later-{row['transaction_id']}"
        return {**row, "timestamp": when.isoformat(), "transaction_id": name}

    return [moved(row) for row in rows]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved") / "profiles"


@pytest.fixture
def profiled(
    stage: Stage, transactions_bundle: str, saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """``sentinel serve`` with a bundle whose features need profiles, saved at the end."""
    folder = tmp_path_factory.mktemp("profiled")
    arguments = ("--bundle", transactions_bundle, "--profiles", str(saved))
    return stage.get("profiled", lambda: sentinel_serve(transactions_bundle, folder, *arguments))


def test_answers_rest_on_the_bundles_profiles_and_on_what_came_since(
    profiled: Served, later: list[Row], transactions_bundle: str
) -> None:
    offline = Offline(transactions_bundle)
    assert profiled.client.get("/model").json()["profiles"] == "bundle"
    for row, expected in zip(later[:40], offline.answer(later[:40]), strict=True):
        assert_same_answer(profiled.predict(row), expected, TOLERANCE)
    found = profiled.predict_batch(later[40:200])["results"]
    for answer, expected in zip(found, offline.answer(later[40:200]), strict=True):
        assert_same_answer(answer, expected, TOLERANCE)


def test_a_transaction_sent_again_gets_the_same_answer_and_another_under_its_id_is_refused(
    profiled: Served, later: list[Row]
) -> None:
    first = profiled.predict(later[0])
    assert profiled.predict(later[0]) == first
    answer = profiled.client.post("/predict", json={**later[0], "amount": 1})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"


def test_labels_find_transactions_of_the_service_and_of_the_bundle(
    profiled: Served, later: list[Row], transactions_file: Path
) -> None:
    stamp = "2018-09-01T00:00:00Z"
    last = pq.read_table(transactions_file).column("transaction_id")[-1].as_py()
    body = [
        {"transaction_id": later[0]["transaction_id"], "is_fraud": True, "timestamp": stamp},
        {"transaction_id": str(last), "is_fraud": True, "timestamp": stamp},
        {"transaction_id": "nobody's", "is_fraud": True, "timestamp": stamp},
    ]
    answer = profiled.client.post("/labels", json=body).json()
    assert [one["outcome"] for one in answer["results"]] == ["applied", "applied", "unknown"]


def test_without_the_profiles_answers_are_flagged_and_they_come_back(
    profiled: Served, later: list[Row]
) -> None:
    (victim,) = profiled.replicas("Profiles")
    os.kill(victim, signal.SIGKILL)
    degraded, whole = 0, 0
    deadline = time.monotonic() + 90
    for number, row in enumerate(later[200:] * 200):
        answer = profiled.client.post("/predict", json={**row, "transaction_id": f"k{number}"})
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            continue
        found = answer.json()
        assert found["fraud_probability"] is not None
        degraded, whole = degraded + found["degraded"], 0 if found["degraded"] else whole + 1
        if degraded and whole == 20:
            break
        assert time.monotonic() < deadline, "the profiles never came back"
    assert degraded
    assert profiled.client.get("/ready").json()["profiles"] == "bundle"


def test_profiles_are_saved_at_the_end_and_read_at_the_next_start(
    stage: Stage, profiled: Served, later: list[Row], saved: Path, tmp_path: Path
) -> None:
    last = later[-1]
    profiled.predict({**last, "transaction_id": "before the stop"})
    stage.clear()
    assert saved.is_file()
    again = ("--bundle", profiled.bundle, "--profiles", str(saved))
    with sentinel_serve(profiled.bundle, tmp_path, *again) as served:
        assert served.client.get("/model").json()["profiles"] == "snapshot"
        body = [
            {
                "transaction_id": "before the stop",
                "is_fraud": False,
                "timestamp": "2018-09-01T00:00:00Z",
            }
        ]
        answer = served.client.post("/labels", json=body).json()
        assert answer["results"][0]["outcome"] == "applied"
