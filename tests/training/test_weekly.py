"""What decisions cost beside simpler ones, week by week."""

import numpy as np
import pytest

from sentinel.dataset import Policy
from training.weekly import (
    AT_HALF,
    BEST_THRESHOLD,
    PLAIN_BEST,
    WeekJudged,
    best_threshold,
    calibration_by_week,
    cost_by_week,
    saved,
)

POLICY = Policy()


def week(name: str, seed: int, rows: int = 4_000) -> WeekJudged:
    """Rows whose probabilities are true, and a plain model that is too sure of its own."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.05, 2, rows)
    labels = (rng.random(rows) < probability).astype(np.int8)
    amounts = np.round(rng.lognormal(3.5, 1, rows), 2)
    return WeekJudged(name, labels, amounts, probability, np.sqrt(probability))


WEEKS = [week("first", 1), week("second", 2)]


def test_probabilities_that_are_true_are_told_from_those_that_are_too_high() -> None:
    true = calibration_by_week(WEEKS)
    high = calibration_by_week(
        [WeekJudged(w.name, w.labels, w.amounts, w.plain, w.plain) for w in WEEKS]
    )
    assert [row["train_start"] for row in true] == ["first", "second"]
    for one, other in zip(true, high, strict=True):
        assert one["mean_probability"] == pytest.approx(one["fraud_rate"], rel=0.25)
        assert one["expected_calibration_error"] < other["expected_calibration_error"]
        assert one["brier_skill"] > other["brier_skill"]


def test_the_regret_of_all_rows_is_that_of_the_weeks() -> None:
    cost = cost_by_week(WEEKS, POLICY)
    for name, value in cost["regret_per_1000"].items():
        assert value == pytest.approx(
            np.mean([each["regret_per_1000"][name] for each in cost["weeks"]])
        )
    assert sum(cost["decisions"].values()) == sum(len(w.labels) for w in WEEKS)
    assert cost["approving_all"] == pytest.approx(
        1000 * np.mean(np.concatenate([w.labels * (50 + 2 * w.amounts) for w in WEEKS]))
    )


def test_deciding_by_cost_saves_what_the_difference_says_beside_each_simpler_way() -> None:
    cost = cost_by_week(WEEKS, POLICY)
    ours = cost["regret_per_1000"]["sentinel"]
    for name in (AT_HALF, PLAIN_BEST, BEST_THRESHOLD):
        other, figures = cost["regret_per_1000"][name], cost["saved"][name]
        assert figures["per_1000"]["value"] == pytest.approx(other - ours)
        assert figures["share"]["value"] == pytest.approx(1 - ours / other)
        assert figures["share"]["low"] < figures["share"]["value"] < figures["share"]["high"]


def test_no_threshold_of_those_tried_costs_less_than_the_best() -> None:
    one = WEEKS[0]
    best = best_threshold(POLICY, one.amounts, one.probability, one.labels)
    missed = (50 + 2 * one.amounts) * one.labels
    wrong = (5 + 0.02 * one.amounts) * (1 - one.labels)

    def cost(threshold: float) -> float:
        blocked = one.probability >= threshold
        return float(missed[~blocked].sum() + wrong[blocked].sum())

    assert all(cost(best) <= cost(at) for at in (0.02, 0.05, 0.1, 0.2, 0.5, 0.9))


def test_two_ways_that_cost_the_same_save_nothing() -> None:
    cost = np.array([0.0, 3.0, 0.0, 7.0] * 50)
    same = saved(cost, cost)
    assert same["per_1000"] == {"value": 0, "low": 0, "high": 0}
    assert same["share"] == {"value": 0, "low": 0, "high": 0}


def test_rows_are_drawn_in_pairs() -> None:
    rng = np.random.default_rng(0)
    other = rng.exponential(100, 2_000)
    figures = saved(other - 10, other)["per_1000"]
    # Each row saves the same, however much they differ from each other.
    assert figures["low"] == pytest.approx(10_000, rel=0.08)
    assert figures["high"] == pytest.approx(10_000, rel=0.08)
