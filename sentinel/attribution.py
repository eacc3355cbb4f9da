"""What each feature contributes to the margin of one row: exact Shapley values of trees.

They are the path-dependent SHAP values that XGBoost's ``pred_contribs`` gives (Lundberg et al.
2018): a feature that is not known is averaged over, in proportion to the training rows that went
either way. XGBoost takes seconds to import and two milliseconds for one row; here a row of two
hundred trees of depth six takes less than half of one, so whoever decides can also explain.

How: a leaf's share in the margin is a product over the features on its path, each factor ``o`` (1
if the row goes that way, else 0) where the feature is known and ``z`` (the share of training rows
that did) where it is not. The Shapley value of such a product is the integral over t in [0, 1] of
``(o - z)`` times the other features' ``t o + (1 - t) z``: a polynomial in t, which Gauss-Legendre
quadrature integrates exactly with half as many points as a path has features. One walk down a tree
collects the products at each point and one walk up adds the leaves below each node (the idea of
Linear TreeShap, Yu et al. 2022).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sentinel.ensemble import TreeEnsemble

_LEAST_SHARE = 1e-30
"""Smallest share of training rows that is reckoned with, so that nothing is divided by zero."""


@dataclass(frozen=True, slots=True, eq=False)
class TreeAttribution:
    """Explains the margins of one ensemble. Safe to share between threads.

    ``parent`` and ``before`` (nodes,) are positions, -1 where there is none: of a node's parent,
    and of the nearest node above it whose parent asks the same feature. ``share`` (nodes,) is z of
    the feature that its parent asks, of all questions about it on the path. ``points`` and
    ``weights`` are those of the quadrature.
    """

    ensemble: TreeEnsemble
    parent: NDArray[np.int64]
    before: NDArray[np.int64]
    share: NDArray[np.float64]
    points: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, f) contributions for (n, f) features: those of a row, and the mean margin
        of the training rows, add up to its margin."""
        trees = self.ensemble
        found: NDArray[np.float64] = _contributions(
            features, trees.tree_start, trees.feature, trees.value, trees.left, trees.default_left,
            self.parent, self.before, self.share, self.points, self.weights,
        )  # fmt: skip
        return found


def attribution_of(ensemble: TreeEnsemble) -> TreeAttribution | None:
    """What explains this ensemble; ``None`` where it does not say how its training rows went."""
    if not ensemble.cover[ensemble.tree_start[:-1]].all():
        return None
    parent, before, share, most = _paths(
        ensemble.tree_start, ensemble.feature, ensemble.left, ensemble.cover
    )
    points, weights = np.polynomial.legendre.leggauss(max(1, (most + 1) // 2))
    return TreeAttribution(ensemble, parent, before, share, (points + 1) / 2, weights / 2)


@njit(cache=True, nogil=True)
def _paths(tree_start, feature, left, cover):
    """See ``TreeAttribution``; and how many features are on the path that has the most."""
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
    return parent, before, share, asked.max()


@njit(cache=True, nogil=True, error_model="numpy")
def _contributions(
    features, tree_start, feature, value, left, default_left, parent, before, share, points, weights
):  # fmt: skip
    rows, width = features.shape
    most = 0
    for tree in range(len(tree_start) - 1):
        most = max(most, tree_start[tree + 1] - tree_start[tree])
    found = np.zeros((rows, width))
    goes = np.ones(most, np.bool_)
    inverse = np.ones((most, len(points)))
    product = np.ones((most, len(points)))
    below = np.empty((most, len(points)))
    for row in range(rows):
        for tree in range(len(tree_start) - 1):
            root, end = tree_start[tree], tree_start[tree + 1]
            below[0] = 0
            for node in range(root + 1, end):
                above, n = parent[node], node - root
                last = before[node] - root if before[node] != -1 else -1
                asked = features[row, feature[above]]
                to_left = default_left[above] if np.isnan(asked) else asked < value[above]
                goes[n] = to_left == (n == left[above]) and (last == -1 or goes[last])
                leaf = value[node] if left[node] == -1 else np.float32(0)
                for q in range(len(points)):
                    here = (1 - points[q]) * share[node] + (points[q] if goes[n] else 0.0)
                    inverse[n, q] = 1 / here
                    if last != -1:  # in the product is what the question before said: take it out
                        here *= inverse[last, q]
                    product[n, q] = product[above - root, q] * here
                    below[n, q] = leaf * product[n, q]
            for node in range(end - 1, root, -1):
                above, n = parent[node], node - root
                last = before[node] - root if before[node] != -1 else -1
                known = (1.0 if goes[n] else 0.0) - share[node]
                known_before = 0.0
                if last != -1:
                    known_before = (1.0 if goes[last] else 0.0) - share[root + last]
                total = 0.0
                for q in range(len(points)):
                    slope = known * inverse[n, q]
                    if last != -1:
                        slope -= known_before * inverse[last, q]
                    total += weights[q] * slope * below[n, q]
                    below[above - root, q] += below[n, q]
                found[row, feature[above]] += total
    return found
