"""Contributions against XGBoost's own, and against the Shapley values by their definition."""

from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped, unused-ignore]

from sentinel.attribution import attribution_of
from sentinel.ensemble import TreeEnsemble, read_trees
from sentinel.trees import from_booster, from_isolation_forest, to_booster

Rows = NDArray[np.float32]


def rows_of(seed: int, count: int, features: int) -> Rows:
    """Normal numbers with ties and missing values."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features)).astype(np.float32).round(1)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def boosted(rows: Rows, seed: int, depth: int, rounds: int) -> xgb.Booster:
    noise = np.random.default_rng(seed).normal(size=len(rows))
    labels = np.nan_to_num(rows[:, 0] * rows[:, 1] + rows[:, 2]) + noise > 0.5
    settings = {"objective": "binary:logistic", "max_depth": depth, "nthread": 1}
    return xgb.train(settings, xgb.DMatrix(rows, labels), rounds)


def contributions(trees: TreeEnsemble, rows: Rows) -> NDArray[np.float64]:
    attribution = attribution_of(trees)
    assert attribution is not None
    return attribution(rows)


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 9])
def test_they_are_those_of_xgboost(depth: int) -> None:
    rows = rows_of(depth, 2000, 5)  # so few features that a path asks the same one again
    booster = boosted(rows, depth, depth, 20)
    wanted = booster.predict(xgb.DMatrix(rows[:200]), pred_contribs=True)[:, :-1]
    np.testing.assert_allclose(contributions(from_booster(booster), rows[:200]), wanted, atol=1e-5)


def test_a_forest_is_explained_after_its_way_through_a_file() -> None:
    rows = np.nan_to_num(rows_of(3, 500, 4))
    forest = from_isolation_forest(IsolationForest(n_estimators=20, random_state=0).fit(rows))
    booster = to_booster(forest)
    read = read_trees(bytes(booster.save_raw("ubj")))
    wanted = booster.predict(xgb.DMatrix(rows[:50]), pred_contribs=True)[:, :-1]
    np.testing.assert_allclose(contributions(read, rows[:50]), wanted, atol=1e-6)
    np.testing.assert_array_equal(contributions(read, rows), contributions(forest, rows))


def test_they_are_shapley_values_by_their_definition() -> None:
    rows = rows_of(5, 300, 4)
    trees = from_booster(boosted(rows, 5, 4, 3))
    for row in rows[:5]:
        (found,) = contributions(trees, row[None])
        np.testing.assert_allclose(found, shapley(trees, row), atol=1e-6)


def shapley(trees: TreeEnsemble, row: Rows) -> NDArray[np.float64]:
    width = len(row)
    found = np.zeros(width)
    for feature in range(width):
        others = [f for f in range(width) if f != feature]
        for size in range(width):
            weight = factorial(size) * factorial(width - size - 1) / factorial(width)
            for known in map(set, combinations(others, size)):
                gain = expected(trees, row, known | {feature}) - expected(trees, row, known)
                found[feature] += weight * gain
    return found


def expected(trees: TreeEnsemble, row: Rows, known: set[int]) -> float:
    """The margin where only these features are known."""

    def below(root: int, node: int) -> float:
        at = root + node
        if trees.left[at] == -1:
            return float(trees.value[at])
        value = row[trees.feature[at]]
        children = trees.left[at], trees.right[at]
        if trees.feature[at] in known:
            left = trees.default_left[at] if np.isnan(value) else value < trees.value[at]
            return below(root, children[0 if left else 1])
        shares = [trees.cover[root + child] / trees.cover[at] for child in children]
        parts = zip(shares, children, strict=True)
        return float(sum(share * below(root, child) for share, child in parts))

    return sum(below(int(root), 0) for root in trees.tree_start[:-1])


def test_a_row_alone_is_explained_as_among_others() -> None:
    rows = rows_of(7, 400, 5)
    trees = from_booster(boosted(rows, 7, 6, 10))
    many = contributions(trees, rows)
    for at in range(0, 400, 50):
        np.testing.assert_array_equal(contributions(trees, rows[at : at + 1])[0], many[at])


def test_trees_that_ask_nothing_add_nothing() -> None:
    rows = rows_of(11, 200, 3)
    trees = from_booster(boosted(rows, 11, 2, 3))
    leaf = np.flatnonzero(trees.left == -1)[:1]
    alone = replace(
        trees,
        tree_start=np.append(trees.tree_start, len(trees.left) + 1),
        **{
            name: np.append(getattr(trees, name), getattr(trees, name)[leaf])
            for name in ("feature", "value", "left", "right", "default_left", "cover")
        },
    )
    np.testing.assert_array_equal(contributions(alone, rows), contributions(trees, rows))


def test_trees_that_do_not_say_how_their_rows_went_are_not_explained() -> None:
    rows = rows_of(9, 100, 3)
    booster = boosted(rows, 9, 2, 2)
    trees = from_booster(booster)
    trees.cover[:] = 0
    assert attribution_of(trees) is None
