"""Splits of a table by time: never at random, so that nothing is learnt from the future.

Rows are in time order, so a slice is a range of rows. Slices are sized by frauds, because a few
dozen of them carry all the information that a calibration can use.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_FRAUDS = 40
"""Fewest frauds to stop on, and to calibrate on: below this the two numbers of a sigmoid, or the
best round, are mostly noise."""

MIN_SHARE = 0.15
"""Smallest share of the rows in a slice to stop or calibrate on."""

LEAST_FRAUDS = 10
"""A table with fewer frauds is refused: nothing measured on it would mean anything."""

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Slices:
    """Row ranges in time order: [0, fit) to fit on, [fit, stop) to choose the number of rounds,
    [stop, end) to calibrate."""

    fit: int
    stop: int
    end: int


def choose_slices(labels: NDArray[np.int8]) -> Slices | None:
    """The latest slices with enough frauds each, or ``None`` where too few are left to fit on."""
    size = len(labels)
    stop = _start_of_slice(labels, size)
    fit = _start_of_slice(labels, stop)
    enough = labels[:fit].sum() >= MIN_FRAUDS and fit >= size * 0.4
    return Slices(fit, stop, size) if enough else None


def _start_of_slice(labels: NDArray[np.int8], end: int) -> int:
    """Where a slice that ends at ``end`` must begin to have its rows and its frauds."""
    by_rows = end - int(np.ceil(MIN_SHARE * len(labels)))
    frauds = np.flatnonzero(labels[:end])
    by_frauds = int(frauds[-MIN_FRAUDS]) if len(frauds) >= MIN_FRAUDS else 0
    return max(0, min(by_rows, by_frauds))


def forward_folds(labels: NDArray[np.int8]) -> Iterator[tuple[slice, slice]]:
    """(earlier rows to fit on, the rows after them to judge), blocks with equally many frauds.

    For tables with too few frauds to give any of them up: every block but the first is judged by a
    model of all rows before it.
    """
    frauds = np.flatnonzero(labels)
    blocks = np.array_split(frauds, FOLDS)
    starts = [int(block[0]) for block in blocks[1:] if len(block)]
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        yield slice(0, start), slice(start, end)


def backtest_start(labels: NDArray[np.int8]) -> int | None:
    """First row of the part a pipeline can be judged on after training on all rows before.

    The last fifth of the rows, or more, up to two fifths, where that has too few frauds; ``None``
    where even then fewer than ``LEAST_FRAUDS`` frauds, or no legitimate row, lie on a side.
    """
    size = len(labels)
    frauds = np.flatnonzero(labels)
    by_frauds = int(frauds[-MIN_FRAUDS]) if len(frauds) >= MIN_FRAUDS else 0
    start = max(min(int(size * 0.8), by_frauds), int(size * 0.6))
    sides = labels[:start], labels[start:]
    judgeable = all(side.sum() >= LEAST_FRAUDS and not side.all() for side in sides)
    return start if judgeable else None
