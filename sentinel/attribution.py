"""What each feature contributes to the margin of one row: exact Shapley values of trees.

They are the path-dependent SHAP values that XGBoost's ``pred_contribs`` gives (Lundberg et al.
2018): a feature that is not known is averaged over, in proportion to the training rows that went
either way. XGBoost takes seconds to import and two milliseconds for one row of three hundred trees
of depth six; here it is a fifth of a millisecond or two, so whoever decides can also explain.

How: a leaf's share in the margin is a product over the features on its path, each factor ``o`` (1
if the row goes that way, else 0) where the feature is known and ``z`` (the share of training rows
that did) where it is not. The Shapley value of such a product is the integral over t in [0, 1] of
``(o - z)`` times the other features' ``t o + (1 - t) z``: a polynomial in t, which Gauss-Legendre
quadrature integrates exactly with half as many points as a path has features. One walk down a tree
collects the products at each point and one walk up adds the leaves below each node (the idea of
Linear TreeShap, Yu et al. 2022).

What a child multiplies the product by, and what it adds to its question's feature, depends on the
row in one of three ways only (``OUT``, ``MISSED``, ``TAKEN``). Both are reckoned once, before the
first row, so that a row costs neither a division nor a branch, four points at a time. Single
precision, as XGBoost's own: a millionth of the largest contribution is lost.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sentinel.ensemble import TreeEnsemble

_LEAST_SHARE = 1e-30
"""Smallest share of training rows that is reckoned with, so that nothing is divided by zero."""


OUT, MISSED, TAKEN = 0, 1, 2
"""How a child stands to a row: an earlier question about the same feature has led elsewhere; this
one has; all of them lead to it."""

_LANES = 4
"""Quadrature points reckoned together: as many as a vector register holds."""


class TreeAttribution:
    """Explains the margins of one ensemble. Safe to share between threads."""

    def __init__(self, ensemble: TreeEnsemble) -> None:
        """Nothing is reckoned yet: 0.2 KB a question, only where rows are explained."""
        self._ensemble = ensemble

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, f) contributions for (n, f) features: those of a row, and the mean margin
        of the training rows, add up to its margin."""
        found: NDArray[np.float64] = _contributions(features, *self._questions)
        return found

    @cached_property
    def _questions(self) -> tuple[NDArray[Any], ...]:
        """By question, trees one after the other (``start``), each behind its parent.

        ``feature``, ``value`` and ``default_left`` are the ensemble's. Children have slots, left at
        2 i and right at 2 i + 1 from their tree's first, and behind them one that stands for the
        tree itself: ``slot`` is the question's own, ``before`` that of the nearest child above it
        whose parent asks the same feature. ``leaf`` (questions, 2) are the values of children that
        are leaves, else 0. ``factor`` and ``slope`` (questions, 2, 3, points) are a child's factor
        and its weighted part of the integral, by how it stands.
        """
        trees = self._ensemble
        above, share, most = _paths(trees.tree_start, trees.feature, trees.left, trees.cover)
        points, weights = np.polynomial.legendre.leggauss(max(1, (most + 1) // 2))
        spare = -len(points) % _LANES  # points of no weight fill the last register
        points = np.append((points + 1) / 2, np.full(spare, 0.5))
        weights = np.append(weights / 2, np.zeros(spare))
        asks = trees.left != -1
        start = np.append(0, np.cumsum(asks))[trees.tree_start].astype(np.int64)
        asked = (trees.feature[asks], trees.value[asks], trees.default_left[asks])
        return start, *asked, *_tables(
            trees.tree_start, trees.left, trees.value, above, share, points, weights
        )  # fmt: skip


def attribution_of(ensemble: TreeEnsemble) -> TreeAttribution | None:
    """What explains this ensemble; ``None`` where it does not say how its training rows went."""
    if not ensemble.cover[ensemble.tree_start[:-1]].all():
        return None
    return TreeAttribution(ensemble)


@njit(cache=True, nogil=True)
def _paths(tree_start, feature, left, cover):
    """By node: the nearest node above it whose parent asks the same feature (-1: none), and the
    share of training rows that went its way, of all questions on its path about that feature. Then
    how many features are on the path that has the most."""
    size = len(left)
    parent = np.full(size, -1, np.int64)
    before = np.full(size, -1, np.int64)
    share = np.ones(size)
    asked = np.zeros(size, np.int64)
    for tree in range(len(tree_start) - 1):
        root = tree_start[tree]
        for node in range(root, tree_start[tree + 1]):
            if left[node] != -1:
                parent[root + left[node]] = node
                parent[root + left[node] + 1] = node
            above = parent[node]
            if above == -1:
                continue
            at = above
            while parent[at] != -1 and feature[parent[at]] != feature[above]:
                at = parent[at]
            before[node] = at if parent[at] != -1 else -1
            known = before[node] != -1
            asked[node] = asked[above] + (0 if known else 1)
            went = float(cover[node]) / float(cover[above]) if cover[above] > 0 else 0.0
            share[node] = max((share[before[node]] if known else 1.0) * went, _LEAST_SHARE)
    return before, share, asked.max()


@njit(cache=True, nogil=True)
def _tables(tree_start, left, value, above, share, points, weights):
    """``slot`` to ``slope``, see ``TreeAttribution``."""
    questions, size = (left != -1).sum(), len(points)
    slot = np.empty(questions, np.int32)
    before = np.empty(questions, np.int32)
    leaf = np.zeros((questions, 2), np.float32)
    factor = np.zeros((questions, 2, 3, size), np.float32)
    slope = np.zeros((questions, 2, 3, size), np.float32)
    slot_of = np.empty(len(left), np.int32)
    at = 0
    for tree in range(len(tree_start) - 1):
        root, end, first = tree_start[tree], tree_start[tree + 1], at
        slot_of[root] = 2 * (left[root:end] != -1).sum()
        for node in range(root, end):
            if left[node] == -1:
                continue
            slot[at] = slot_of[node]
            for side in range(2):
                child = root + left[node] + side
                slot_of[child] = 2 * (at - first) + side
                last = above[child]
                before[at] = slot_of[root if last == -1 else last]
                leaf[at, side] = value[child] if left[child] == -1 else 0
                z, z_last = share[child], 1.0 if last == -1 else share[last]
                for q in range(size):
                    t = points[q]
                    taken, taken_last = t + (1 - t) * z, t + (1 - t) * z_last
                    # In the product is what the question before said: it is taken out.
                    earlier = (1 - z_last) / taken_last
                    factor[at, side, OUT, q] = z / z_last
                    factor[at, side, MISSED, q] = (1 - t) * z / taken_last
                    factor[at, side, TAKEN, q] = taken / taken_last
                    slope[at, side, MISSED, q] = weights[q] * (-1 / (1 - t) - earlier)
                    slope[at, side, TAKEN, q] = weights[q] * ((1 - z) / taken - earlier)
            at += 1
    return slot, before, leaf, factor, slope


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _contributions(
    features, start, feature, value, default_left, slot, before, leaf, factor, slope
):  # fmt: skip
    rows, width = features.shape
    most = 2 * np.diff(start).max() + 1
    found = np.zeros((rows, width))
    stands = np.empty(most, np.int64)
    product = np.empty((most, _LANES), np.float32)
    below = np.empty((most, _LANES), np.float32)
    for lane in range(0, factor.shape[3], _LANES):
        for tree in range(len(start) - 1):
            first, count = start[tree], start[tree + 1] - start[tree]
            whole = 2 * count
            stands[whole] = TAKEN
            product[whole] = 1
            for row in range(rows):
                for at in range(count):
                    asks, left, right = first + at, 2 * at, 2 * at + 1
                    asked = features[row, feature[asks]]
                    unknown = default_left[asks] & np.isnan(asked)
                    to_left = np.int64((asked < value[asks]) | unknown)
                    reached = np.int64(stands[before[asks]] == TAKEN)
                    here, there = reached * (1 + to_left), reached * (2 - to_left)
                    stands[left], stands[right] = here, there
                    for q in range(_LANES):
                        so_far = product[slot[asks], q]
                        product[left, q] = so_far * factor[asks, 0, here, lane + q]
                        product[right, q] = so_far * factor[asks, 1, there, lane + q]
                        below[left, q] = leaf[asks, 0] * product[left, q]
                        below[right, q] = leaf[asks, 1] * product[right, q]
                for at in range(count - 1, -1, -1):
                    asks, left, right = first + at, 2 * at, 2 * at + 1
                    here, there, total = stands[left], stands[right], np.float32(0)
                    for q in range(_LANES):
                        total += slope[asks, 0, here, lane + q] * below[left, q]
                        total += slope[asks, 1, there, lane + q] * below[right, q]
                        below[slot[asks], q] = below[left, q] + below[right, q]
                    found[row, feature[asks]] += total
    return found
