"""The model deployments as plain classes, and what the router makes of their failures."""

import asyncio
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError

from deployments.handle_lanes import HandleLanes
from deployments.lane_server import INLINE_ROWS, LaneServer
from sentinel.bundle import open_bundle
from sentinel.errors import BundleError, UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

LANES = (FRAUD_LANE, NOVELTY_LANE)


class Call:
    """One method of a fake handle: answers, fails, or never does either."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    async def remote(self, *_: Any) -> Any:
        if self._outcome == "never":
            await asyncio.Event().wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Handle:
    """A deployment whose every method has the same outcome."""

    def __init__(self, outcome: Any) -> None:
        self.score = self.holds = Call(outcome)


def ask(fraud: Any, novelty: Any) -> Any:
    lanes = HandleLanes({FRAUD_LANE: Handle(fraud), NOVELTY_LANE: Handle(novelty)})
    return asyncio.run(lanes(np.zeros((1, 3), np.float32), "d1"))


def missing(fraud: Any, novelty: Any) -> dict[str, str]:
    lanes = HandleLanes({FRAUD_LANE: Handle(fraud), NOVELTY_LANE: Handle(novelty)})
    return asyncio.run(lanes.missing("d1", patience=0.05))


def raised_in_the_lane(cause: Exception) -> Exception:
    """An exception as Ray hands it to the caller: both its own and the one that was raised."""
    return RayTaskError("score", f"trace\n{cause}", cause).as_instanceof_cause()


DOWN = [
    ActorDiedError(),
    DeploymentUnavailableError(DeploymentID("XGBoost", "sentinel")),
    raised_in_the_lane(UnknownBundle("xgboost", "d1", "d0")),
]


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_scores_as_the_bundle_does_for_few_rows_and_for_many(
    transactions_bundle: str, lane: str
) -> None:
    opened = open_bundle(transactions_bundle)
    server = LaneServer(transactions_bundle, lane)
    generator = np.random.default_rng(1)
    for size in (0, 1, INLINE_ROWS + 1):
        features = generator.random((size, len(opened.manifest.features)), np.float32)
        scores = asyncio.run(server.score(features, opened.digest))
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, opened.lane(lane).score(features))


def test_a_lane_refuses_a_bundle_that_it_does_not_hold(transactions_bundle: str) -> None:
    server = LaneServer(transactions_bundle, FRAUD_LANE)
    with pytest.raises(UnknownBundle, match="not other"):
        asyncio.run(server.score(np.zeros((1, 6), np.float32), "other"))
    assert not asyncio.run(server.holds("other"))
    assert asyncio.run(server.holds(open_bundle(transactions_bundle).digest))


def test_a_lane_does_not_start_without_its_bundle(tmp_path: Any) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        LaneServer(str(tmp_path), FRAUD_LANE)


def test_both_lanes_are_asked_and_each_answer_goes_to_its_place() -> None:
    scores = ask(np.array([0.1]), np.array([0.2]))
    assert (scores.fraud.tolist(), scores.anomaly.tolist()) == ([0.1], [0.2])


@pytest.mark.parametrize("failure", DOWN, ids=lambda failure: type(failure).__name__)
def test_a_lane_that_is_down_gives_none_and_the_other_still_counts(failure: Exception) -> None:
    scores = ask(failure, np.array([0.2]))
    assert scores.fraud is None
    assert scores.anomaly.tolist() == [0.2]
    scores = ask(np.array([0.1]), failure)
    assert scores.anomaly is None
    assert scores.fraud.tolist() == [0.1]


def test_a_mistake_in_the_lanes_code_is_raised() -> None:
    with pytest.raises(ValueError, match="expected \\(n, 6\\)"):
        ask(raised_in_the_lane(ValueError("expected (n, 6)")), np.array([0.2]))


def test_nothing_is_missing_when_both_lanes_hold_the_bundle() -> None:
    assert missing(True, True) == {}


@pytest.mark.parametrize("outcome", [False, "never", *DOWN[:2]])
def test_a_lane_that_cannot_score_is_missing_with_the_reason(outcome: Any) -> None:
    assert missing(True, outcome)[NOVELTY_LANE]
    assert list(missing(outcome, True)) == [FRAUD_LANE]
