"""Slices lie in time order and hold the frauds they are for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.slices import (
    FOLDS,
    LEAST_FRAUDS,
    MIN_FRAUDS,
    MIN_SHARE,
    backtest_start,
    choose_slices,
    forward_folds,
)

seeds = st.integers(0, 2**32 - 1)


def labels_of(rows: int, rate: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(rows) < rate).astype(np.int8)


@given(st.integers(200, 5_000), st.floats(0.005, 0.5), seeds)
def test_every_slice_has_its_frauds_and_its_share_or_there_are_none(
    rows: int, rate: float, seed: int
) -> None:
    labels = labels_of(rows, rate, seed)
    slices = choose_slices(labels)
    if slices is None:
        return
    assert 0 < slices.fit < slices.stop < slices.end == rows
    for part in (slice(slices.fit, slices.stop), slice(slices.stop, slices.end)):
        assert labels[part].sum() >= MIN_FRAUDS
        assert part.stop - part.start >= MIN_SHARE * rows
    assert labels[: slices.fit].sum() >= MIN_FRAUDS


def test_plenty_of_frauds_are_sliced() -> None:
    assert choose_slices(labels_of(10_000, 0.05, 0)) is not None


def test_too_few_frauds_are_not_sliced() -> None:
    assert choose_slices(labels_of(10_000, 0.008, 0)) is None


@given(st.integers(100, 3_000), st.floats(0.02, 0.9), seeds)
def test_folds_judge_each_row_after_the_first_block_once_by_earlier_rows(
    rows: int, rate: float, seed: int
) -> None:
    labels = labels_of(rows, rate, seed)
    if labels.sum() < LEAST_FRAUDS:
        return
    folds = list(forward_folds(labels))
    assert len(folds) == FOLDS - 1
    for earlier, later in folds:
        assert (earlier.start, earlier.stop) == (0, later.start)
        assert labels[earlier].any()
        assert labels[later].any()
    assert [later.stop for _, later in folds[:-1]] == [later.start for _, later in folds[1:]]
    assert folds[-1][1].stop == rows


def test_a_backtest_judges_the_last_fifth_where_it_has_enough_frauds() -> None:
    assert backtest_start(labels_of(10_000, 0.05, 0)) == 8_000


def test_a_backtest_takes_more_rows_where_frauds_are_few() -> None:
    start = backtest_start(labels_of(10_000, 0.012, 0))
    assert start is not None
    assert 6_000 <= start < 8_000


def test_no_backtest_is_made_of_a_handful_of_frauds() -> None:
    labels = np.zeros(1_000, dtype=np.int8)
    labels[:12] = 1
    assert backtest_start(labels) is None


def test_no_backtest_is_made_where_the_later_rows_are_all_frauds() -> None:
    labels = np.zeros(1_000, dtype=np.int8)
    labels[700:] = 1
    labels[:50:2] = 1
    assert backtest_start(labels) is None
