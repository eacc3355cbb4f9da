"""Whether later rows still look as those a model was trained on: the population stability index."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 10
SHIFTED = 0.25
"""What is customarily called a shift; below 0.1 nothing is said to have changed."""

_LEAST_SHARE = 1e-4
"""An empty bin counts as this share: the logarithm of nothing has no value."""


def stability_index(before: NDArray[np.floating], after: NDArray[np.floating]) -> float:
    """The sum of ``(a - b) * log(a / b)`` over the shares of rows in bins.

    The bins are ten of equal mass of ``before`` (fewer where values repeat), and one of missing
    values. 0 is no difference; it is symmetric up to the choice of the bins.
    """
    known = before[np.isfinite(before)]
    edges = np.empty(0)
    if len(known):
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    one, other = _shares(before, edges), _shares(after, edges)
    return float(((other - one) * np.log(other / one)).sum())


def most_shifted(
    names: Sequence[str], before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[str, float]:
    """The column that changed most between (n, f) and (m, f) features, and its index."""
    indexes = [stability_index(before[:, at], after[:, at]) for at in range(len(names))]
    worst = int(np.argmax(indexes))
    return names[worst], indexes[worst]


def _shares(values: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.float64]:
    missing = ~np.isfinite(values)
    place = np.searchsorted(edges, values[~missing], side="left")
    counts = np.bincount(place, minlength=len(edges) + 1)
    shares = np.append(counts, missing.sum()) / max(len(values), 1)
    return np.maximum(shares, _LEAST_SHARE)
