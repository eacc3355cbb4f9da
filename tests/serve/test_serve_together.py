"""The models in the router's process: the same answers, and no lane behind it that could be out."""

import os
import signal

from tests.serve.serving import Row, Served, assert_same_answer, offline

TOLERANCE = 1e-6


def test_each_answer_is_that_of_offline_scoring(together: Served, rows: list[Row]) -> None:
    for row, expected in zip(rows[:20], offline(together.bundle, rows[:20]), strict=True):
        assert_same_answer(together.predict(row), expected, TOLERANCE)
    found = together.predict_batch(rows)["results"]
    for answer, expected in zip(found, offline(together.bundle, rows), strict=True):
        assert_same_answer(answer, expected, TOLERANCE)


def test_no_model_has_a_deployment_of_its_own(together: Served) -> None:
    assert len(together.replicas("FraudRouter")) == 1
    assert not together.replicas("XGBoost")
    assert not together.replicas("IsolationForest")
    assert together.client.get("/ready").json()["status"] == "ready"


def test_a_router_that_is_killed_comes_back_with_its_models(
    together: Served, rows: list[Row]
) -> None:
    (victim,) = together.replicas("FraudRouter")
    os.kill(victim, signal.SIGKILL)
    (successor,) = together.wait_for_replicas("FraudRouter", 1)
    assert successor != victim
    (expected,) = offline(together.bundle, rows[:1])
    assert_same_answer(together.predict(rows[0]), expected, TOLERANCE)
