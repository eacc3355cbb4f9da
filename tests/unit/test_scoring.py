"""Transactions to decisions by a bundle's own pieces, against the same by hand, row by row."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.bundle import Bundle, open_bundle
from sentinel.decision import APPROVE, DECISIONS, REVIEW
from sentinel.errors import UnknownBundle
from sentinel.scoring import (
    FRAUD_LANE,
    NOVELTY_LANE,
    Decisions,
    Judge,
    Lane,
    Lanes,
    LocalLanes,
    Scores,
    score_offline,
)
from sentinel.table import read_table
from sentinel.transactions import Transactions

DATASETS = ("plain", "creditcard")


@dataclass
class Scene:
    """A bundle, what it is made of, and the last rows of the table it was trained on."""

    bundle: Bundle
    judge: Judge
    lanes: LocalLanes
    transactions: Transactions

    def score(self, rows: slice = slice(None), lanes: Lanes | None = None) -> Decisions:
        asked = self.transactions.take(rows)
        features = self.judge.features(asked)
        scores = asyncio.run(_asked(lanes or self.lanes, features, self.judge.digest))
        return self.judge.decide(asked, scores)


async def _asked(lanes: Lanes, features: NDArray[np.float32], digest: str) -> Scores:
    return await lanes(features, digest)


@pytest.fixture(scope="module", params=DATASETS)
def scene(request: pytest.FixtureRequest) -> Scene:
    bundle = open_bundle(request.getfixturevalue(f"{request.param}_bundle"))
    name = {"plain": "transactions"}.get(request.param, request.param)
    file = str(request.getfixturevalue(f"{name}_file"))
    table = read_table(file, bundle.manifest.description)
    frauds = np.flatnonzero(table.labels)[-20:]
    rows = np.concatenate([np.arange(len(table) - 100, len(table)), frauds])
    return Scene(bundle, bundle.judge(), bundle.lanes(), table.transactions.take(rows))


@dataclass
class FixedLanes:
    """Lanes that answer what they are told to, and remember what they were asked."""

    fraud: float | None
    anomaly: float | None
    asked: list[tuple[NDArray[Any], str]] = field(default_factory=list)

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        self.asked.append((features, bundle))
        one, other = (
            None if score is None else np.full(len(features), score)
            for score in (self.fraud, self.anomaly)
        )
        return Scores(one, other)


def by_hand(scene: Scene, row: int) -> tuple[float, float, float]:
    """Probability, anomaly score and p-value of one row from the bundle's files alone."""
    manifest, files = scene.bundle.manifest, scene.bundle.files
    features = scene.judge.features(scene.transactions.take(slice(row, row + 1)))

    def margin(lane: str) -> float:
        booster = xgb.Booster({"nthread": 1})
        booster.load_model(bytearray(files[manifest.models[lane].file]))
        return float(booster.predict(xgb.DMatrix(features), output_margin=True)[0])

    odds = manifest.calibration.slope * margin(FRAUD_LANE) + manifest.calibration.intercept
    anomaly = 2 ** -(1 + margin(NOVELTY_LANE))
    window = np.frombuffer(files[manifest.novelty.file], "<f4")
    at_least = sum(score >= np.float32(anomaly) for score in window.tolist())
    return 1 / (1 + math.exp(-odds)), anomaly, (1 + at_least) / (len(window) + 1)


def test_a_batch_is_scored_as_each_row_would_be_by_hand(scene: Scene) -> None:
    found = scene.score()
    window = scene.bundle.manifest.novelty.rows
    for row in [*range(30), *range(len(found.ids) - 5, len(found.ids))]:
        probability, anomaly, novelty_p = by_hand(scene, row)
        assert found.fraud_probability[row] == pytest.approx(probability, abs=1e-6)
        assert found.anomaly_score[row] == pytest.approx(anomaly, abs=1e-6)
        # Window rows within float32's reach of the score may fall on either side of it.
        assert found.novelty_p[row] == pytest.approx(novelty_p, abs=5 / window)


def test_each_decision_follows_from_its_own_row(scene: Scene) -> None:
    found = scene.score()
    policy = scene.judge.description.policy
    amounts = scene.judge.amounts(scene.transactions)
    for row, p in enumerate(found.fraud_probability):
        missed = policy.missed_fraud.fixed + policy.missed_fraud.per_amount * amounts[row]
        blocked = policy.false_block.fixed + policy.false_block.per_amount * amounts[row]
        review = policy.review_cost + p * (1 - policy.review_catch_rate) * missed
        costs = [p * missed, review, (1 - p) * blocked]
        cheapest = costs.index(min(costs))
        novel = found.novelty_p[row] < policy.novelty_review_below
        assert found.decision[row] == (REVIEW if cheapest == APPROVE and novel else cheapest)
    assert len(set(found.decision)) > 1, "rows that show nothing"


def test_answers_stand_in_the_order_of_the_transactions_and_name_their_bundle(
    scene: Scene,
) -> None:
    found = scene.score()
    assert found.ids.to_pylist() == scene.transactions.ids.to_pylist()
    assert set(found.model_version) == {scene.bundle.digest}
    assert scene.bundle.digest == open_bundle(scene.bundle.uri).digest
    assert not found.degraded.any()
    amounts = scene.judge.amounts(scene.transactions)
    amount = scene.judge.description.amount
    at = list(scene.judge.description.numbers).index(amount)
    assert amounts.tolist() == scene.transactions.numbers[:, at].tolist()


@given(st.integers(0, 120), st.integers(0, 40))
def test_how_rows_are_batched_does_not_change_their_answers(
    scene: Scene, start: int, size: int
) -> None:
    rows = slice(start, start + size)
    whole, part = scene.score(), scene.score(rows)
    assert part.ids.to_pylist() == whole.ids.to_pylist()[rows]
    for name in ("fraud_probability", "anomaly_score"):
        got, wanted = getattr(part, name), getattr(whole, name)[rows]
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


def test_no_transactions_get_no_answers(scene: Scene) -> None:
    found = scene.score(slice(0, 0))
    assert len(found.ids) == len(found.decision) == len(found.fraud_probability) == 0


def test_scoring_without_an_event_loop_is_the_same(scene: Scene) -> None:
    offline = score_offline(scene.judge, scene.lanes, scene.transactions)
    online = scene.score()
    for name in ("decision", "fraud_probability", "anomaly_score", "novelty_p"):
        np.testing.assert_array_equal(getattr(offline, name), getattr(online, name))
    assert offline.model_version.tolist() == online.model_version.tolist()
    assert not (offline.degraded | online.degraded).any()


def test_the_lanes_are_asked_once_for_all_rows_of_this_very_bundle(scene: Scene) -> None:
    lanes = FixedLanes(0.5, 0.5)
    scene.score(lanes=lanes)
    ((features, digest),) = lanes.asked
    assert digest == scene.bundle.digest
    assert features.shape == (len(scene.transactions), len(scene.bundle.manifest.features))
    assert features.dtype == np.float32
    assert features.flags.c_contiguous


def test_without_the_supervised_lane_answers_are_degraded_and_the_fallback_decides(
    scene: Scene,
) -> None:
    found = scene.score(lanes=FixedLanes(None, 0.9999))
    assert found.degraded.all()
    assert np.isnan(found.fraud_probability).all()
    assert (found.novelty_p == 1 / (scene.bundle.manifest.novelty.rows + 1)).all()
    fallback = scene.judge.description.policy.fallback
    assert {DECISIONS[code] for code in found.decision} == {fallback}


def test_without_the_novelty_lane_answers_are_degraded_and_the_probability_decides(
    scene: Scene,
) -> None:
    sure = scene.score(lanes=FixedLanes(0.0, None))
    assert sure.degraded.all()
    assert np.isnan([sure.anomaly_score, sure.novelty_p]).all()
    assert (sure.decision == APPROVE).all()
    novel = scene.score(lanes=FixedLanes(0.0, 1.0))
    assert not novel.degraded.any()
    p = 1 / (scene.bundle.manifest.novelty.rows + 1)
    raised = p < scene.judge.description.policy.novelty_review_below
    assert (novel.decision == (REVIEW if raised else APPROVE)).all()


def test_without_any_lane_there_is_still_an_answer(scene: Scene) -> None:
    found = scene.score(lanes=FixedLanes(None, None))
    assert found.degraded.all()
    assert np.isnan([found.fraud_probability, found.anomaly_score, found.novelty_p]).all()
    assert len(found.decision) == len(scene.transactions)


def test_lanes_refuse_to_answer_for_another_bundle(scene: Scene) -> None:
    features = scene.judge.features(scene.transactions)
    with pytest.raises(UnknownBundle, match=f"{scene.bundle.digest}, not {'0' * 64}"):
        asyncio.run(scene.lanes(features, "0" * 64))


def test_a_judge_and_lanes_of_two_bundles_do_not_work_together(
    transactions_bundle: str, creditcard_bundle: str, scene: Scene
) -> None:
    for uri in (transactions_bundle, creditcard_bundle):
        other = open_bundle(uri)
        if other.digest != scene.bundle.digest:
            with pytest.raises(UnknownBundle, match=other.digest):
                scene.score(lanes=other.lanes())


def test_a_lane_turns_margins_into_its_own_kind_of_score(scene: Scene) -> None:
    features = scene.judge.features(scene.transactions)
    fraud, anomaly = (scene.bundle.lane(name) for name in (FRAUD_LANE, NOVELTY_LANE))
    assert (fraud.name, anomaly.name) == (FRAUD_LANE, NOVELTY_LANE)
    for lane in (fraud, anomaly):
        score = lane.score(features)
        assert ((score > 0) & (score < 1)).all()
    with pytest.raises(KeyError, match="random_forest"):
        Lane("random_forest", None)  # type: ignore[arg-type]
