"""The quality figures against scikit-learn, against sums done by hand, and against known truth."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics  # type: ignore[import-untyped, unused-ignore]

from training.quality import (
    FEWEST_RESAMPLES,
    Interval,
    Quality,
    Ranking,
    affordable_resamples,
    auroc,
    average_precision,
    brier_skill,
    calibration_bins,
    expected_calibration_error,
    measure,
    precision_recall,
    rank_quality,
    recall_at_1pct_fpr,
)

Labels = NDArray[np.int8]
Reals = NDArray[np.float64]
Table = tuple[Labels, Reals]

RANK_FIGURES = ("average_precision", "auroc", "recall_at_1pct_fpr")
FIGURES = (*RANK_FIGURES, "brier_skill", "expected_calibration_error", "regret_per_1000")


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Labels of both kinds with probabilities: a handful of values, or hardly any two equal."""
    rows = draw(st.integers(2, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = (rng.random(rows) < draw(st.sampled_from((0.02, 0.2, 0.7)))).astype(np.int8)
    labels[:2] = 0, 1
    probability = np.clip(rng.normal(0.3 + 0.2 * labels, 0.25), 0, 1)
    decimals = draw(st.sampled_from((0, 1, 2, 12)))
    return labels, np.round(probability, decimals)


@st.composite
def resampled_tables(draw: st.DrawFn) -> tuple[Labels, Reals, NDArray[np.int64]]:
    """A table, and row numbers drawn from it with replacement, the first two always among them."""
    labels, probability = draw(tables())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    drawn = rng.integers(len(labels), size=len(labels))
    return labels, probability, np.append(drawn, (0, 1))


def transactions(rows: int, seed: int) -> Table:
    """About 2% frauds, with the very probabilities they were drawn from."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(6 - 2.2 * rng.normal(size=rows)))
    return (rng.random(rows) < probability).astype(np.int8), probability


def largest_recall(labels: Labels, score: Reals, weight: NDArray[np.int64] | None = None) -> float:
    false_positive_rate, recall, _ = metrics.roc_curve(
        labels, score, sample_weight=weight, drop_intermediate=False
    )
    return float(recall[false_positive_rate <= 0.01].max())


def measured(labels: Labels, probability: Reals, resamples: int = 20, seed: int = 0) -> Quality:
    regret = np.where(labels == 1, 80.0, probability)
    return measure(labels, probability, regret, resamples=resamples, seed=seed)


@given(tables())
@settings(max_examples=60, deadline=None)
def test_the_figures_are_those_of_scikit_learn_with_or_without_ties(table: Table) -> None:
    labels, probability = table
    quality = measured(labels, probability, resamples=1)
    base_rate = np.full(len(labels), labels.mean())
    brier = metrics.brier_score_loss(labels, probability)
    skill = 1 - brier / metrics.brier_score_loss(labels, base_rate)

    expected_precision = metrics.average_precision_score(labels, probability)
    assert quality.average_precision.value == pytest.approx(expected_precision)
    assert quality.auroc.value == pytest.approx(metrics.roc_auc_score(labels, probability))
    assert quality.recall_at_1pct_fpr.value == pytest.approx(largest_recall(labels, probability))
    assert quality.brier_skill.value == pytest.approx(skill, abs=1e-9)


@given(resampled_tables())
@settings(max_examples=60, deadline=None)
def test_a_resample_has_the_figures_scikit_learn_gives_weighted_rows(
    resampled: tuple[Labels, Reals, NDArray[np.int64]],
) -> None:
    labels, probability, drawn = resampled
    tally = Ranking.of(labels, probability).tally(drawn)
    weight = np.bincount(drawn, minlength=len(labels))
    base_rate = np.full(len(labels), labels[drawn].mean())
    brier = metrics.brier_score_loss(labels, probability, sample_weight=weight)
    skill = 1 - brier / metrics.brier_score_loss(labels, base_rate, sample_weight=weight)

    expected_precision = metrics.average_precision_score(labels, probability, sample_weight=weight)
    assert average_precision(tally) == pytest.approx(expected_precision)
    expected_auroc = metrics.roc_auc_score(labels, probability, sample_weight=weight)
    assert auroc(tally) == pytest.approx(expected_auroc)
    expected_recall = largest_recall(labels, probability, weight)
    assert recall_at_1pct_fpr(tally) == pytest.approx(expected_recall)
    assert brier_skill(tally) == pytest.approx(skill, abs=1e-9)


@given(resampled_tables())
@settings(max_examples=60, deadline=None)
def test_a_resample_has_the_calibration_error_of_its_rows_written_out(
    resampled: tuple[Labels, Reals, NDArray[np.int64]],
) -> None:
    labels, probability, drawn = resampled
    tally = Ranking.of(labels, probability).tally(drawn)
    mean, rate, rows = calibration_bins(labels[drawn], probability[drawn])
    error = float((rows * np.abs(mean - rate)).sum() / len(drawn))
    assert expected_calibration_error(tally) == pytest.approx(error, abs=1e-12)


@given(tables(), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_rows_changes_no_figure(table: Table, seed: int) -> None:
    labels, probability = table
    order = np.random.default_rng(seed).permutation(len(labels))
    quality = measured(labels, probability, resamples=1)
    shuffled = measured(labels[order], probability[order], resamples=1)
    for name in FIGURES:
        value = getattr(quality, name).value
        assert getattr(shuffled, name).value == pytest.approx(value, rel=1e-9, abs=1e-12), name


@given(tables(), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_every_interval_contains_its_value(table: Table, resamples: int) -> None:
    quality = measured(*table, resamples=resamples)
    for name in FIGURES:
        interval = getattr(quality, name)
        assert interval.low <= interval.value <= interval.high, name
        assert math.isfinite(interval.high - interval.low), name


def test_recall_at_one_percent_counts_a_threshold_of_exactly_one_percent() -> None:
    legit = [0.9, 0.9, 0.5] + [0.1] * 197  # 2 of 200 may be flagged, not the third
    fraud = [0.95, 0.8, 0.5, 0.05]
    labels = np.array([0] * 200 + [1] * 4, dtype=np.int8)
    figures = rank_quality(labels, np.array(legit + fraud), resamples=1)
    assert figures["recall_at_1pct_fpr"].value == 2 / 4


def test_recall_at_one_percent_takes_equal_scores_together() -> None:
    labels = np.array([1] * 3 + [0] * 200, dtype=np.int8)
    score = np.array([0.9] * 6 + [0.1] * 197)  # three frauds share their score with 3 of 200
    assert rank_quality(labels, score, resamples=1)["recall_at_1pct_fpr"].value == 0


def test_the_calibration_error_is_the_mean_gap_of_fifteen_equal_bins() -> None:
    labels = np.array([0] * 29 + [1], dtype=np.int8)
    probability = np.array([0.0] * 28 + [0.8] * 2)  # top bin: 0.8 said, 1 of 2 is fraud
    error = measured(labels, probability).expected_calibration_error
    assert error.value == pytest.approx(0.3 / 15)


def test_the_calibration_error_of_one_probability_for_all_is_its_distance_from_the_rate() -> None:
    labels = np.array([1] * 10 + [0] * 21, dtype=np.int8)
    error = measured(labels, np.full(31, 0.5)).expected_calibration_error
    assert error.value == pytest.approx(0.5 - 10 / 31)


def test_calibration_bins_of_distinct_probabilities_are_plain_slices() -> None:
    labels, probability = transactions(3000, seed=1)
    mean, rate, rows = calibration_bins(labels, probability)
    order = np.argsort(probability)
    np.testing.assert_allclose(mean, probability[order].reshape(15, 200).mean(axis=1))
    np.testing.assert_allclose(rate, labels[order].reshape(15, 200).mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(rows, np.full(15, 200.0))


def test_calibration_bins_share_out_equal_probabilities_that_lie_across_a_cut() -> None:
    labels = np.array([0, 0, 0, 1], dtype=np.int8)
    mean, rate, rows = calibration_bins(labels, np.array([0.2, 0.6, 0.6, 0.6]), bins=2)
    np.testing.assert_allclose(mean, [(0.2 + 0.6) / 2, 0.6])
    np.testing.assert_allclose(rate, [(1 / 3) / 2, (2 / 3) / 2])
    np.testing.assert_array_equal(rows, [2.0, 2.0])


def test_regret_is_counted_for_a_thousand_rows() -> None:
    labels = np.array([0, 1, 0, 1], dtype=np.int8)
    quality = measure(labels, np.full(4, 0.5), np.array([0.0, 3.0, 1.0, 0.0]), resamples=1)
    assert quality.regret_per_1000.value == 1000


@given(tables())
@settings(max_examples=40, deadline=None)
def test_the_curve_is_scikit_learns_where_recall_rises(table: Table) -> None:
    labels, score = table
    recall, precision, threshold = precision_recall(labels, score)
    all_precision, all_recall, all_threshold = metrics.precision_recall_curve(labels, score)
    rises = np.flatnonzero(np.diff(all_recall) < 0)  # scikit-learn goes from low thresholds up
    np.testing.assert_allclose(recall, all_recall[rises][::-1])
    np.testing.assert_allclose(precision, all_precision[rises][::-1])
    np.testing.assert_array_equal(threshold, all_threshold[rises][::-1])


def test_the_steps_of_the_curve_enclose_the_average_precision() -> None:
    labels, probability = transactions(2000, seed=2)
    recall, precision, _ = precision_recall(labels, probability)
    area = float((np.diff(recall, prepend=0) * precision).sum())
    assert measured(labels, probability).average_precision.value == pytest.approx(area)


def test_scores_that_are_no_probabilities_have_the_rank_figures_alone() -> None:
    labels, probability = transactions(500, seed=3)
    quality = measured(labels, probability, seed=5)
    ranks = rank_quality(labels, 40 * probability - 7, resamples=20, seed=5)
    assert ranks == {name: getattr(quality, name) for name in RANK_FIGURES}


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    labels, probability = transactions(500, seed=4)
    assert measured(labels, probability, seed=1) == measured(labels, probability, seed=1)
    assert measured(labels, probability, seed=1) != measured(labels, probability, seed=2)


def test_a_resample_never_lacks_frauds_or_legitimate_rows() -> None:
    labels = np.array([0, 1], dtype=np.int8)  # every second draw of two rows would lack a kind
    quality = measured(labels, np.array([0.2, 0.7]), resamples=200)
    assert quality.auroc == Interval(1.0, 1.0, 1.0)


def test_intervals_of_auroc_and_regret_contain_the_truth_about_as_often_as_they_claim() -> None:
    contained = {"auroc": 0, "regret": 0}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.array([0, 1], dtype=np.int8), (300, 100))
        distance = rng.normal(labels, 1.0)
        regret = rng.exponential(2.0, 400)
        quality = measure(labels, 1 / (1 + np.exp(-distance)), regret, resamples=200, seed=seed)
        truth = 0.5 * (1 + math.erf(0.5))  # two normals, one standard deviation apart
        contained["auroc"] += quality.auroc.low <= truth <= quality.auroc.high
        contained["regret"] += quality.regret_per_1000.low <= 2000 <= quality.regret_per_1000.high
    assert all(times >= 70 for times in contained.values()), contained


def test_the_interval_of_the_calibration_error_mostly_contains_the_truth() -> None:
    contained = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rate = rng.random(1500) * 0.9
        labels = (rng.random(1500) < rate).astype(np.int8)
        probability = rate + 0.05  # says 5 percentage points too much, everywhere
        error = measured(labels, probability, resamples=100, seed=seed).expected_calibration_error
        contained += error.low <= 0.05 <= error.high
    assert contained >= 32, contained


def test_the_quality_as_dict_has_the_keys_of_the_product() -> None:
    labels, probability = transactions(300, seed=5)
    report = json.loads(json.dumps(measured(labels, probability).as_dict()))
    assert list(report) == ["rows", "frauds", *FIGURES]
    assert (report["rows"], report["frauds"]) == (300, int(labels.sum()))
    assert all(list(report[name]) == ["value", "low", "high"] for name in FIGURES)
    assert Interval(0.5, 0.4, 0.6).as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6}


def test_very_large_tables_get_fewer_resamples_but_never_too_few() -> None:
    assert affordable_resamples(250_000, 500) == 500
    assert affordable_resamples(1_000_000, 500) == 250
    assert affordable_resamples(50_000_000, 500) == FEWEST_RESAMPLES
    assert affordable_resamples(50_000_000, 30) == 30


BOTH = (0, 1, 0)


@pytest.mark.parametrize(
    ("labels", "probability", "regret", "message"),
    [
        ((), (), (), "labels has 0 rows, expected at least one fraud"),
        ((0, 0), (0.1, 0.2), (0, 0), "labels is 0 in all 2 rows, expected both 0 and 1"),
        ((1, 1), (0.1, 0.2), (0, 0), "labels is 1 in all 2 rows, expected both 0 and 1"),
        ((0, 1, 2), (0.1, 0.2, 0.3), (0, 0, 0), "labels has the value 2, expected 0"),
        (BOTH, (0.1, 0.2), (0, 0, 0), "probability has 2 rows, expected 3 as in labels"),
        (BOTH, (0.1, 0.2, 0.3), (0, 0), "regret has 2 rows, expected 3 as in labels"),
        (BOTH, (0.1, math.nan, 0.3), (0, 0, 0), "probability is nan in row 1, expected a finite"),
        (BOTH, (0.1, 0.2, 0.3), (0, 0, math.inf), "regret is inf in row 2, expected a finite"),
        (BOTH, (0.1, 1.5, 0.3), (0, 0, 0), r"probability has the value 1.5, expected 0 to 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_value_and_what_was_expected(
    labels: tuple[int, ...], probability: tuple[float, ...], regret: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(np.array(labels, dtype=np.int8), np.array(probability), np.array(regret, float))


def test_rank_figures_and_curves_refuse_the_same_tables() -> None:
    labels, nan = np.array(BOTH, dtype=np.int8), np.array([0.1, math.nan, 0.3])
    with pytest.raises(ValueError, match="score is nan in row 1"):
        rank_quality(labels, nan)
    with pytest.raises(ValueError, match="score is nan in row 1"):
        precision_recall(labels, nan)
    with pytest.raises(ValueError, match="probability is nan in row 1"):
        calibration_bins(labels, nan)


def test_a_number_of_resamples_or_bins_below_one_is_refused() -> None:
    labels, score = np.array(BOTH, dtype=np.int8), np.array([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="resamples is 0, expected 1 or more"):
        rank_quality(labels, score, resamples=0)
    with pytest.raises(ValueError, match="bins is 0, expected 1 or more"):
        calibration_bins(labels, score, bins=0)
