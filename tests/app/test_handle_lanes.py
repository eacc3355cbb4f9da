"""The model deployments as plain classes, and what the router makes of their failures."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import DeploymentUnavailableError

from deployments import handle_lanes
from deployments.handle_lanes import HandleLanes
from deployments.held_bundles import Refusal
from deployments.lane_server import INLINE_ROWS, LaneServer, LaneState
from sentinel.bundle import open_bundle
from sentinel.errors import BundleError, UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores

LANES = (FRAUD_LANE, NOVELTY_LANE)
HOLDS = LaneState(["d1"], None)
NEVER = "never"


class Answers:
    """The answers of a set of replicas to one method."""

    def __init__(self, outcomes: list[Any]) -> None:
        self._outcomes = outcomes

    async def results_async(self, **_: Any) -> list[Any]:
        return self._outcomes


class Call:
    """One method of a fake handle: each call has the next outcome, the last one for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0

    async def remote(self, *_: Any) -> Any:
        self.calls += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is NEVER:
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Handle:
    """A deployment whose methods have these outcomes."""

    def __init__(self, *scores: Any, state: Any = HOLDS, replicas: Any = (HOLDS,)) -> None:
        self.score = Call(*scores)
        self.state = Call(state)
        self._replicas = replicas

    def broadcast(self, method: str) -> Answers:
        assert method == "state"
        if isinstance(self._replicas, Exception):
            raise self._replicas
        return Answers(list(self._replicas))


FRAUD, ANOMALY = np.array([0.1]), np.array([0.2])


def lanes(fraud: Handle, novelty: Handle, deadline: float = 0.2) -> HandleLanes:
    return HandleLanes({FRAUD_LANE: fraud, NOVELTY_LANE: novelty}, deadline)  # type: ignore[dict-item]


def ask(fraud: Handle, novelty: Handle) -> Scores:
    return asyncio.run(lanes(fraud, novelty)(np.zeros((1, 3), np.float32), "d1"))


def raised_in_the_lane(cause: Exception) -> Exception:
    """An exception as Ray hands it to the caller: both its own and the one that was raised."""
    return RayTaskError("score", f"trace\n{cause}", cause).as_instanceof_cause()


DOWN = [
    ActorDiedError(),
    ActorUnavailableError("gone", b"0" * 16),
    DeploymentUnavailableError(DeploymentID("XGBoost", "sentinel")),
    raised_in_the_lane(UnknownBundle("xgboost", "d1", "d0")),
]


def reconfigured(bundle: str, lane: str) -> LaneServer:
    server = LaneServer(lane)
    asyncio.run(server.reconfigure({"bundle": bundle}))
    return server


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_scores_as_the_bundle_does_for_few_rows_and_for_many(
    transactions_bundle: str, lane: str
) -> None:
    opened = open_bundle(transactions_bundle)
    server = reconfigured(transactions_bundle, lane)
    generator = np.random.default_rng(1)
    for size in (0, 1, INLINE_ROWS + 1):
        features = generator.random((size, len(opened.manifest.features)), np.float32)
        scores = asyncio.run(server.score(features, opened.digest))
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, opened.lane(lane).score(features))


def test_a_lane_refuses_a_bundle_that_it_does_not_hold(transactions_bundle: str) -> None:
    server = reconfigured(transactions_bundle, FRAUD_LANE)
    with pytest.raises(UnknownBundle, match="not other"):
        asyncio.run(server.score(np.zeros((1, 6), np.float32), "other"))
    state = asyncio.run(server.state())
    assert state == LaneState([open_bundle(transactions_bundle).digest], None)


def test_a_lane_does_not_start_without_its_bundle(tmp_path: Any) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        reconfigured(str(tmp_path), FRAUD_LANE)


def test_a_lane_that_is_told_of_a_broken_bundle_says_so_and_goes_on(
    transactions_bundle: str, tmp_path: Any
) -> None:
    server = reconfigured(transactions_bundle, FRAUD_LANE)

    async def told() -> LaneState:
        await server.reconfigure({"bundle": str(tmp_path)})
        async with asyncio.timeout(10):
            while (state := await server.state()).refused is None:
                await asyncio.sleep(0.01)
        return state

    state = asyncio.run(told())
    assert state.digests == [open_bundle(transactions_bundle).digest]
    assert isinstance(state.refused, Refusal)
    assert "there is no bundle" in state.refused.reason


def test_both_lanes_are_asked_and_each_answer_goes_to_its_place() -> None:
    scores = ask(Handle(FRAUD), Handle(ANOMALY))
    assert scores.fraud is FRAUD
    assert scores.anomaly is ANOMALY


@pytest.mark.parametrize("failure", DOWN, ids=lambda failure: type(failure).__name__)
def test_a_call_that_met_a_dead_replica_is_sent_again(failure: Exception) -> None:
    handle = Handle(failure, failure, FRAUD)
    assert ask(handle, Handle(ANOMALY)).fraud is FRAUD
    assert handle.score.calls == 3


@pytest.mark.parametrize(
    "outcome", [*DOWN, NEVER], ids=lambda o: o if isinstance(o, str) else type(o).__name__
)
def test_a_lane_that_has_no_answer_by_the_deadline_gives_none_and_the_other_still_counts(
    outcome: Any,
) -> None:
    scores = ask(Handle(outcome), Handle(ANOMALY))
    assert scores.fraud is None
    assert scores.anomaly is ANOMALY
    scores = ask(Handle(FRAUD), Handle(outcome))
    assert scores.anomaly is None
    assert scores.fraud is FRAUD


def test_a_mistake_in_the_lanes_code_is_raised() -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 6\)"):
        ask(Handle(raised_in_the_lane(ValueError("expected (n, 6)"))), Handle(ANOMALY))


def test_a_lane_that_is_out_costs_later_batches_nothing_and_is_back_once_it_can_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handle_lanes, "PROBE_PAUSE", 0.01)
    features = np.zeros((1, 3), np.float32)

    async def scene() -> None:
        fraud = Handle(NEVER, FRAUD, state=ActorDiedError())
        both = lanes(fraud, Handle(ANOMALY), deadline=0.1)
        assert (await both(features, "d1")).fraud is None
        start = time.monotonic()
        for _ in range(100):
            assert (await both(features, "d1")).fraud is None
        assert time.monotonic() - start < 0.1, "a hundred batches within one deadline"
        assert fraud.score.calls == 1
        fraud.state.outcomes = [LaneState(["d0"], None)]
        await asyncio.sleep(0.05)
        assert (await both(features, "d1")).fraud is None, "it holds another bundle"
        fraud.state.outcomes = [HOLDS]
        await _until(lambda: _answers(both, features))

    asyncio.run(scene())


def test_a_probe_asks_for_the_bundle_that_is_wanted_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handle_lanes, "PROBE_PAUSE", 0.01)
    features = np.zeros((1, 3), np.float32)

    async def scene() -> None:
        fraud = Handle(NEVER, FRAUD, state=LaneState(["d2"], None))
        both = lanes(fraud, Handle(ANOMALY), deadline=0.05)
        assert (await both(features, "d1")).fraud is None
        await _until(lambda: _answers(both, features, "d2"))

    asyncio.run(scene())


async def _answers(both: HandleLanes, features: Any, bundle: str = "d1") -> bool:
    return (await both(features, bundle)).fraud is FRAUD


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await done():
            await asyncio.sleep(0.01)


def missing(fraud: Any, novelty: Any) -> dict[str, str]:
    both = lanes(Handle(FRAUD, state=fraud), Handle(ANOMALY, state=novelty))
    return asyncio.run(both.missing("d1", patience=0.05))


def test_nothing_is_missing_when_both_lanes_hold_the_bundle() -> None:
    assert missing(HOLDS, LaneState(["d2", "d1"], None)) == {}


@pytest.mark.parametrize("outcome", [LaneState(["d0"], None), NEVER, *DOWN[:3]])
def test_a_lane_that_cannot_score_is_missing_with_the_reason(outcome: Any) -> None:
    assert missing(HOLDS, outcome)[NOVELTY_LANE]
    assert list(missing(outcome, HOLDS)) == [FRAUD_LANE]


def test_the_states_are_those_of_every_replica_that_answers() -> None:
    other = LaneState(["d2"], Refusal("uri", "why"))
    both = lanes(
        Handle(FRAUD, replicas=[HOLDS, ActorDiedError(), other]),
        Handle(ANOMALY, replicas=DOWN[2]),
    )
    found = asyncio.run(both.states(0.1))
    assert found == {FRAUD_LANE: [HOLDS, other], NOVELTY_LANE: []}
