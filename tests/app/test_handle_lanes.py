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

from deployments import guarded
from deployments.handle_lanes import HandleLanes
from deployments.held_bundles import Refusal
from deployments.lane_server import INLINE_ROWS, LaneServer, LaneState
from sentinel.bundle import open_bundle
from sentinel.errors import BundleError, UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores

LANES = (FRAUD_LANE, NOVELTY_LANE)
HOLDS = LaneState(["d1"], None)
NEVER, SLOWLY = "never", "slowly"


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
        self.asked: list[tuple[Any, ...]] = []

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def remote(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is NEVER:
            await asyncio.Event().wait()
        if outcome is SLOWLY:
            await asyncio.sleep(0.05)
            return np.array([0.5])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Handle:
    """A deployment whose methods have these outcomes."""

    def __init__(self, *scores: Any, replicas: Any = (HOLDS,)) -> None:
        self.score = Call(*scores)
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


FEATURES = np.zeros((3, 3), np.float32)


def test_a_lane_that_is_out_costs_later_batches_nothing_and_is_back_once_it_scores_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guarded, "PROBE_PAUSE", 0.01)

    async def scene() -> None:
        fraud = Handle(NEVER)
        both = lanes(fraud, Handle(ANOMALY), deadline=0.1)
        assert (await both(FEATURES, "d1")).fraud is None
        assert list(both.out) == [FRAUD_LANE]
        start = time.monotonic()
        for _ in range(100):
            assert (await both(FEATURES, "d1")).fraud is None
        assert time.monotonic() - start < 0.1, "a hundred batches within one deadline"
        await asyncio.sleep(0.3)
        assert list(both.out) == [FRAUD_LANE], "it answers, but not what it is asked for"
        fraud.score.outcomes = [FRAUD]
        await _until(lambda: _answers(both, FEATURES))
        assert both.out == {}

    asyncio.run(scene())


def test_a_probe_asks_for_one_row_of_the_bundle_that_is_wanted_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guarded, "PROBE_PAUSE", 0.01)

    async def scene() -> None:
        fraud = Handle(NEVER)
        both = lanes(fraud, Handle(ANOMALY), deadline=0.05)
        assert (await both(FEATURES, "d1")).fraud is None
        assert (await both(FEATURES, "d2")).fraud is None
        fraud.score.outcomes = [FRAUD]
        await _until(lambda: _answers(both, FEATURES, "d2"))
        asked = {(len(features), bundle) for features, bundle in fraud.score.asked}
        asked.discard((1, "d1"))  # if it asked before the second batch came
        assert asked == {(3, "d1"), (1, "d2"), (3, "d2")}

    asyncio.run(scene())


def test_a_bundle_that_no_replica_holds_costs_its_own_batches_alone() -> None:
    async def scene() -> None:
        fraud = Handle(DOWN[3])
        both = lanes(fraud, Handle(ANOMALY), deadline=5)
        assert (await both(FEATURES, "old")).fraud is None
        assert fraud.score.calls == guarded.UNKNOWN_TRIES
        assert both.out == {}
        fraud.score.outcomes = [FRAUD]
        assert (await both(FEATURES, "d1")).fraud is FRAUD

    asyncio.run(scene())


def test_answers_that_came_while_the_event_loop_was_held_up_count() -> None:
    async def scene() -> None:
        both = lanes(Handle(SLOWLY), Handle(SLOWLY), deadline=0.1)
        asking = asyncio.create_task(both(FEATURES, "d1"))
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # past the deadline, and past the moment the answers came
        scores = await asking
        assert scores.fraud is not None
        assert scores.anomaly is not None
        assert both.out == {}

    asyncio.run(scene())


async def _answers(both: HandleLanes, features: Any, bundle: str = "d1") -> bool:
    return (await both(features, bundle)).fraud is FRAUD


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await done():
            await asyncio.sleep(0.01)


def test_the_states_are_those_of_every_replica_that_answers() -> None:
    other = LaneState(["d2"], Refusal("uri", "why"))
    both = lanes(
        Handle(FRAUD, replicas=[HOLDS, ActorDiedError(), other]),
        Handle(ANOMALY, replicas=DOWN[2]),
    )
    found = asyncio.run(both.states(0.1))
    assert found == {FRAUD_LANE: [HOLDS, other], NOVELTY_LANE: []}
