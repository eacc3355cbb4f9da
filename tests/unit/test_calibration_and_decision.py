"""Probabilities, p-values and decisions against their definitions, worked out row by row."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from sentinel.calibration import NoveltyCalibration, SigmoidCalibration, log_odds
from sentinel.dataset import AmountCost, Policy
from sentinel.decision import APPROVE, BLOCK, DECISIONS, REVIEW, decide, expected_costs, regret

Reals = NDArray[np.float64]

scores = st.floats(0, 1)
float32_scores = st.floats(0, 1, width=32)
amounts = st.one_of(st.floats(0, 1e6), st.floats(0, 1e308), st.sampled_from([0.0, 1e308]))
p_values = st.floats(0, 1, exclude_min=True)


def column(*values: float) -> Reals:
    return np.array(values, dtype=np.float64)


# Calibration


@given(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.lists(scores, min_size=1))
def test_a_calibrated_probability_lies_strictly_between_0_and_1_and_keeps_the_order(
    slope: float, intercept: float, asked: list[float]
) -> None:
    calibration = SigmoidCalibration(slope=slope, intercept=intercept)
    probability = calibration(column(*sorted([0.0, *asked, 1.0])))
    assert ((probability > 0) & (probability < 1)).all()
    assert (np.diff(probability) >= 0).all()


@given(st.floats(0.1, 2), st.floats(-5, 5), scores, scores)
def test_two_scores_that_can_be_told_apart_keep_different_probabilities(
    slope: float, intercept: float, one: float, other: float
) -> None:
    calibration = SigmoidCalibration(slope=slope, intercept=intercept)
    low, high = np.clip(sorted([one, other]), 1e-6, 1 - 1e-6)
    if high - low > 1e-9:
        first, second = calibration(column(low, high))
        assert first < second


@given(scores)
def test_the_sigmoid_of_slope_1_changes_nothing(score: float) -> None:
    (probability,) = SigmoidCalibration(slope=1, intercept=0)(column(score))
    assert probability == pytest.approx(score, abs=2e-15)


@given(st.floats(0.1, 3), st.floats(-5, 5), st.floats(1e-6, 1 - 1e-6))
def test_the_sigmoid_is_platts(slope: float, intercept: float, score: float) -> None:
    (probability,) = SigmoidCalibration(slope=slope, intercept=intercept)(column(score))
    odds = slope * math.log(score / (1 - score)) + intercept
    assert probability == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-9)


@given(st.lists(scores, min_size=1))
def test_log_odds_are_finite_for_every_score(asked: list[float]) -> None:
    odds = log_odds(column(0, *asked, 1))
    assert np.isfinite(odds).all()
    assert odds[0] == pytest.approx(-odds[-1], rel=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": 0},
        {"slope": -1},
        {"slope": math.inf},
        {"slope": math.nan},
        {"intercept": math.nan},
        {"intercept": -math.inf},
        {"method": "isotonic"},
        {"offset": 1},
    ],
    ids=str,
)
def test_a_calibration_that_would_turn_or_lose_the_order_is_refused(
    wrong: dict[str, float],
) -> None:
    with pytest.raises(ValidationError):
        SigmoidCalibration.model_validate({"slope": 1, "intercept": 0, **wrong})


@given(st.lists(float32_scores, min_size=1, max_size=60), st.data())
def test_a_novelty_p_value_counts_the_window_rows_that_are_at_least_as_novel(
    window: list[float], data: st.DataObject
) -> None:
    asked = data.draw(st.lists(st.sampled_from(window) | float32_scores, min_size=1))
    by_hand = [(1 + sum(w >= score for w in window)) / (len(window) + 1) for score in asked]
    assert NoveltyCalibration(window)(column(*asked)).tolist() == by_hand


def test_a_score_counts_the_window_row_it_came_from_although_that_was_stored_in_float32() -> None:
    window = np.random.default_rng(0).random(1_000)
    p = NoveltyCalibration(window)(window)
    assert sorted(p) == [(1 + rank) / 1_001 for rank in range(1, 1_001)]


@given(st.lists(float32_scores, min_size=1, max_size=60), st.floats(0, 1))
def test_of_rows_like_the_window_a_share_of_at_most_a_gets_a_p_value_of_at_most_a(
    drawn: list[float], share: float
) -> None:
    """Exactly: whichever of n + 1 exchangeable rows is the new one, the others being the window."""
    flagged = 0
    for at, score in enumerate(drawn):
        others = drawn[:at] + drawn[at + 1 :]
        p = NoveltyCalibration(others)(column(score))[0] if others else 1.0
        flagged += p <= share
    assert Fraction(int(flagged), len(drawn)) <= share + 1e-12


def test_p_values_of_rows_like_the_window_are_near_uniform() -> None:
    rng = np.random.default_rng(1)
    p = NoveltyCalibration(rng.beta(2, 5, 20_000))(rng.beta(2, 5, 20_000))
    for share in (0.002, 0.01, 0.1, 0.5):
        assert (p <= share).mean() == pytest.approx(share, abs=4 * math.sqrt(share / 10_000))


@given(st.lists(float32_scores, min_size=1, max_size=60), st.lists(scores, min_size=1))
def test_a_novelty_window_survives_its_file(window: list[float], asked: list[float]) -> None:
    calibration = NoveltyCalibration(window)
    data = calibration.to_bytes()
    again = NoveltyCalibration.from_bytes(data)
    assert data == np.sort(np.array(window, "<f4")).tobytes()
    assert (again.to_bytes(), len(again)) == (data, len(window))
    assert again(column(*asked)).tolist() == calibration(column(*asked)).tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0" * 6,
        np.array([0.5, np.nan], "<f4").tobytes(),
        np.array([np.inf], "<f4").tobytes(),
        np.array([0.5, 1.0000001], "<f4").tobytes(),
        np.array([-1e-30, 0.5], "<f4").tobytes(),
    ],
    ids=["empty", "a byte", "a half", "nan", "inf", "above 1", "below 0"],
)
def test_bytes_that_are_no_window_of_scores_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        NoveltyCalibration.from_bytes(data)


# Decision

costs = st.floats(0, 1e6)
amount_costs = st.builds(AmountCost, fixed=costs, per_amount=costs)
policies = st.builds(
    Policy,
    false_block=amount_costs,
    missed_fraud=amount_costs,
    review_cost=costs,
    review_catch_rate=st.floats(0, 1),
    novelty_review_below=st.floats(0, 1),
    fallback=st.sampled_from(DECISIONS),
)
NEVER_REVIEW = Policy(review_cost=1e290, novelty_review_below=0)


def cost_by_hand(policy: Policy, decision: str, probability: float, amount: float) -> float:
    missed = policy.missed_fraud.fixed + policy.missed_fraud.per_amount * amount
    blocked = policy.false_block.fixed + policy.false_block.per_amount * amount
    missed, blocked = min(missed, 1e300), min(blocked, 1e300)
    match decision:
        case "approve":
            return probability * missed
        case "review":
            return policy.review_cost + probability * (1 - policy.review_catch_rate) * missed
        case _:
            return (1 - probability) * blocked


@given(policies, amounts, scores)
def test_the_decision_is_the_cheapest_one_and_the_mildest_of_equals(
    policy: Policy, amount: float, probability: float
) -> None:
    by_hand = [cost_by_hand(policy, name, probability, amount) for name in DECISIONS]
    found = expected_costs(policy, column(amount), column(probability))
    np.testing.assert_allclose(found[:, 0], by_hand, rtol=1e-12)
    (code,) = decide(policy, column(amount), column(probability), None)
    assert by_hand[code] == pytest.approx(min(by_hand), rel=1e-12)
    if policy.review_cost == 0 and probability == 0:
        assert code == APPROVE


def test_equal_costs_go_to_the_milder_decision() -> None:
    free = AmountCost(fixed=0, per_amount=0)
    everything_free = Policy(false_block=free, missed_fraud=free, review_cost=0)
    assert decide(everything_free, column(1, 2), column(0, 1), None).tolist() == [APPROVE] * 2
    even = AmountCost(fixed=8, per_amount=0)
    review_or_block = Policy(
        false_block=even, missed_fraud=even, review_cost=2, review_catch_rate=1
    )
    assert decide(review_or_block, column(1), column(0.75), None).tolist() == [REVIEW]


@given(st.lists(st.tuples(amounts, scores), min_size=1, max_size=20), policies)
def test_rows_are_decided_each_for_itself(rows: list[tuple[float, float]], policy: Policy) -> None:
    amount, probability = (column(*values) for values in zip(*rows, strict=True))
    together = decide(policy, amount, probability, None)
    alone = [decide(policy, column(a), column(p), None)[0] for a, p in rows]
    assert together.dtype == np.int8
    assert together.tolist() == alone


@given(st.floats(0, 1e290), scores)
def test_without_reviews_it_blocks_above_the_published_threshold(
    amount: float, probability: float
) -> None:
    threshold = (5 + 0.02 * amount) / (55 + 2.02 * amount)
    if abs(probability - threshold) > 1e-12:
        (code,) = decide(NEVER_REVIEW, column(amount), column(probability), None)
        assert code == (BLOCK if probability > threshold else APPROVE)


@given(policies, amounts, scores, p_values)
def test_novelty_only_ever_raises_an_approval_to_a_review(
    policy: Policy, amount: float, probability: float, novelty_p: float
) -> None:
    (before,) = decide(policy, column(amount), column(probability), None)
    (after,) = decide(policy, column(amount), column(probability), column(novelty_p))
    raised = before == APPROVE and novelty_p < policy.novelty_review_below
    assert after == (REVIEW if raised else before)


@given(policies, st.lists(amounts, max_size=5), st.booleans())
def test_without_a_probability_every_row_gets_the_stated_fallback(
    policy: Policy, asked: list[float], novel: bool
) -> None:
    stated = DECISIONS.index(policy.fallback)
    assert decide(policy, column(*asked), None, None).tolist() == [stated] * len(asked)
    p = np.full(len(asked), 0.0 if novel else 1.0)
    raised = policy.fallback == "approve" and novel and policy.novelty_review_below > 0
    wanted = REVIEW if raised else stated
    assert decide(policy, column(*asked), None, p).tolist() == [wanted] * len(asked)


@pytest.mark.parametrize("amount", [0.0, 5e-324, 1e300, 1e308, sys.float_info.max])
def test_the_smallest_and_the_largest_amounts_have_finite_costs(amount: float) -> None:
    asked = column(0, 1e-15, 0.5, 1 - 1e-15, 1)
    amounts = np.full(5, amount)
    assert np.isfinite(expected_costs(Policy(), amounts, asked)).all()
    decided = decide(Policy(), amounts, asked, None)
    assert (decided[0], decided[-1]) == (APPROVE, BLOCK)
    assert np.isfinite(regret(Policy(), amounts, decided, np.ones(5, np.int8))).all()


@given(policies, st.lists(st.tuples(amounts, st.integers(0, 2), st.booleans()), min_size=1))
def test_regret_is_the_cost_hindsight_sees_never_negative_and_nothing_for_perfect_decisions(
    policy: Policy, rows: list[tuple[float, int, bool]]
) -> None:
    amount = column(*(row[0] for row in rows))
    decision = np.array([row[1] for row in rows], np.int8)
    label = np.array([row[2] for row in rows], np.int8)
    found = regret(policy, amount, decision, label)
    by_hand = [cost_by_hand(policy, DECISIONS[code], fraud, a) for a, code, fraud in rows]
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)
    assert (found >= 0).all()
    perfect = np.where(label == 1, BLOCK, APPROVE).astype(np.int8)
    assert not regret(policy, amount, perfect, label).any()


def test_the_default_policy_is_the_published_example() -> None:
    """Costs against the best decision: a fraud of 100 missed costs its 250, blocked a good 7."""
    approve, review, block = expected_costs(Policy(), column(100, 100), column(0, 1))
    assert approve.tolist() == [0, 50 + 100 + 100]
    assert review.tolist() == pytest.approx([4, 4 + 25])
    assert block.tolist() == [5 + 2, 0]
