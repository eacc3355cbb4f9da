"""Tree ensembles against the libraries that grew them.

Every agreement is in the score, to 1e-6, at rows that lie on the splits and one ulp to each side.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped, unused-ignore]

from sentinel.runtime import SMALL_BATCH, TreeModel, anomaly_score, fraud_score
from sentinel.trees import (
    TreeEnsemble,
    from_booster,
    from_isolation_forest,
    to_booster,
)

Rows = NDArray[np.float32]
LARGEST = np.finfo(np.float32).max


def table(seed: int, rows: int = 80, features: int = 3, missing: float = 0.0) -> Rows:
    """A column of eighths with many ties, one that is constant, and the rest normal."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(rows, features)).astype(np.float32)
    made[:, 0] = np.round(made[:, 0] * 8) / 8
    if features > 2:
        made[:, 2] = 7
    made[rng.random(made.shape) < missing] = np.nan
    return made


def labels_of(rows: Rows, seed: int) -> NDArray[np.int8]:
    odds = np.nansum(rows, axis=1) + np.random.default_rng(seed).normal(size=len(rows))
    return (odds > np.median(odds)).astype(np.int8)


def boosted(rows: Rows, rounds: int = 5, seed: int = 0, **parameters: Any) -> xgb.Booster:
    settings = {"objective": "binary:logistic", "nthread": 1, "min_child_weight": 0, **parameters}
    return xgb.train(settings, xgb.DMatrix(rows, labels_of(rows, seed)), rounds)


def isolated(rows: Rows, **parameters: Any) -> IsolationForest:
    return IsolationForest(**{"n_estimators": 4, "random_state": 0, **parameters}).fit(rows)


def model_of(grown: xgb.Booster | IsolationForest) -> TreeModel:
    if not isinstance(grown, xgb.Booster):
        grown = to_booster(from_isolation_forest(grown))
    return TreeModel(bytes(grown.save_raw("ubj")))


def rows_at_the_splits(ensemble: TreeEnsemble, like: Rows, seed: int, count: int = 60) -> Rows:
    """Rows put together from every split, its two neighbours, NaN, infinities and the extremes."""
    rng = np.random.default_rng(seed)
    inner = ensemble.left != -1
    columns = []
    for feature in range(ensemble.features):
        splits = ensemble.value[inner & (ensemble.feature == feature)]
        with np.errstate(over="ignore"):
            near = [np.nextafter(splits, np.float32(side)) for side in (-np.inf, np.inf)]
        special = np.float32([np.nan, np.nan, np.inf, -np.inf, LARGEST, -LARGEST, 0, -0.0, 1e-45])
        pool = np.concatenate([splits, *near, splits, like[:, feature], special])
        columns.append(rng.choice(pool, count))
    return np.column_stack(columns)


def assert_all_ways_agree(
    model: TreeModel,
    rows: Rows,
    expected: NDArray[Any],
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    for way in (model.margin_small, model.margin_large, model.margin):
        margin = way(rows)
        assert margin.dtype == np.float64
        np.testing.assert_allclose(score(margin), expected, rtol=0, atol=1e-6)


def expected_of(booster: xgb.Booster, rows: Rows) -> NDArray[np.float64]:
    """XGBoost's own score of its own booster."""
    margin = booster.inplace_predict(rows, predict_type="margin")
    return fraud_score(np.asarray(margin, dtype=np.float64))


booster_parameters = st.fixed_dictionaries(
    {
        "max_depth": st.sampled_from([1, 2, 6]),
        "eta": st.sampled_from([0.05, 0.3, 1.0]),
        "reg_lambda": st.sampled_from([0.1, 1.0, 3.0]),
        "tree_method": st.sampled_from(["hist", "exact", "approx"]),
        "gamma": st.sampled_from([0.0, 0.5, 5.0]),
        "num_parallel_tree": st.sampled_from([1, 3]),
        "subsample": st.sampled_from([0.6, 1.0]),
        "colsample_bytree": st.sampled_from([0.5, 1.0]),
    },
    optional={
        "base_score": st.sampled_from([1e-9, 0.0017, 0.5, 0.999, 0.99999]),
    },
)
shapes = st.fixed_dictionaries(
    {
        "rows": st.sampled_from([2, 9, 80]),
        "features": st.integers(1, 4),
        "missing": st.sampled_from([0.0, 0.3]),
    }
)


@settings(max_examples=35)
@given(
    st.integers(0, 2**32), shapes, st.integers(1, 6), booster_parameters, st.sampled_from([1, 40])
)
def test_both_runtimes_give_what_xgboost_predicts(
    seed: int, shape: dict[str, Any], rounds: int, parameters: dict[str, Any], count: int
) -> None:
    train = table(seed, **shape)
    booster = boosted(train, rounds, seed, **parameters)
    model = model_of(booster)
    rows = rows_at_the_splits(from_booster(booster), train, seed, count)
    assert_all_ways_agree(model, rows, expected_of(booster, rows), fraud_score)
    finite = np.where(np.isinf(rows), np.nan, rows)
    assert_all_ways_agree(model, finite, booster.predict(xgb.DMatrix(finite)), fraud_score)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    shapes,
    st.integers(1, 5),
    st.sampled_from([1, 2, 3, 0.7, 1.0]),
    st.sampled_from([0.3, 0.7, 1.0]),
    st.booleans(),
)
def test_both_runtimes_give_the_scores_of_scikit_learns_forest(
    seed: int,
    shape: dict[str, Any],
    trees: int,
    sample: float,
    features: float,
    bootstrap: bool,
) -> None:
    train = table(seed, **shape)
    forest = isolated(
        train,
        n_estimators=trees,
        max_samples=min(sample, len(train)) if isinstance(sample, int) else sample,
        max_features=features,
        bootstrap=bootstrap,
        random_state=seed % 2**31,
    )
    rows = rows_at_the_splits(from_isolation_forest(forest), train, seed)
    expected = -forest.score_samples(rows)
    assert_all_ways_agree(model_of(forest), rows, expected, anomaly_score)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_samples": 1},
        {"max_samples": 2},
        {"n_estimators": 1},
        {"max_features": 0.34},
        {"max_samples": 1.0, "n_estimators": 30},
    ],
    ids=str,
)
def test_a_forest_at_the_edge_of_its_parameters_keeps_its_scores(
    parameters: dict[str, Any],
) -> None:
    train = table(5)
    forest = isolated(train, **parameters)
    expected = -forest.score_samples(train)
    assert_all_ways_agree(model_of(forest), train, expected, anomaly_score)


def test_rows_with_missing_values_go_the_way_the_forest_learnt_for_each_node() -> None:
    train = table(1, rows=300, missing=0.3)
    forest = isolated(train, n_estimators=20)
    learnt = np.concatenate([tree.tree_.missing_go_to_left for tree in forest.estimators_])
    assert set(learnt) == {0, 1}
    rows = np.where(np.eye(3, dtype=bool)[np.arange(60) % 3], np.nan, train[:60])
    assert_all_ways_agree(model_of(forest), rows, -forest.score_samples(rows), anomaly_score)


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_a_table_without_any_difference_gives_trees_of_one_leaf(rows: int) -> None:
    train = np.ones((rows, 2), np.float32)
    forest = isolated(train)
    assert_all_ways_agree(model_of(forest), train, -forest.score_samples(train), anomaly_score)
    booster = xgb.train({"nthread": 1}, xgb.DMatrix(train, np.ones(rows)), 2)
    assert len(from_booster(booster).left) == 2
    assert_all_ways_agree(model_of(booster), train, expected_of(booster, train), fraud_score)


@pytest.mark.parametrize("objective", ["count:poisson", "reg:squarederror", "binary:logitraw"])
def test_the_base_of_any_objective_is_the_one_xgboost_starts_from(objective: str) -> None:
    train = table(2)
    booster = boosted(train, objective=objective)
    assert_all_ways_agree(model_of(booster), train, expected_of(booster, train), fraud_score)


def test_nodes_that_were_pruned_away_are_left_out() -> None:
    booster = boosted(table(3, rows=300), tree_method="exact", gamma=3.0)
    raw = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    assert sum(int(tree["tree_param"]["num_deleted"]) for tree in raw) > 0
    ensemble = from_booster(booster)
    assert (ensemble.left != -1).sum() * 2 + len(ensemble) == len(ensemble.left)


class OneSplit:
    """A forest of one tree with one split at any threshold, as scikit-learn would hold it."""

    def __init__(self, threshold: float) -> None:
        tree = SimpleNamespace(
            children_left=np.array([1, -1, -1]),
            children_right=np.array([2, -1, -1]),
            feature=np.array([0, -2, -2]),
            threshold=np.array([threshold, -2.0, -2.0]),
            n_node_samples=np.array([3, 1, 2]),
            weighted_n_node_samples=np.array([3.0, 1.0, 2.0]),
            missing_go_to_left=np.zeros(3, np.uint8),
        )
        self.estimators_ = [SimpleNamespace(tree_=tree)]
        self.estimators_features_ = [np.array([0])]
        self.max_samples_ = 3
        self.n_features_in_ = 1


@settings(max_examples=300)
@given(
    st.floats(allow_nan=False, max_value=1e308),
    st.floats(width=32, allow_nan=False),
    st.integers(-2, 2),
)
def test_a_split_of_a_forest_sends_every_float32_the_same_way(
    threshold: float, anywhere: float, ulps: int
) -> None:
    split = from_isolation_forest(OneSplit(threshold)).value[0]
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
        for _ in range(abs(ulps)):
            near = np.nextafter(near, np.float32(np.copysign(np.inf, ulps)))
    for value in (np.float32(anywhere), near):
        assert (value < split) == (float(value) <= threshold)


@settings(max_examples=12)
@given(st.integers(0, 2**32), shapes, booster_parameters)
def test_every_node_stands_before_its_two_children_and_they_side_by_side(
    seed: int, shape: dict[str, Any], parameters: dict[str, Any]
) -> None:
    train = table(seed, **shape)
    forest = from_isolation_forest(isolated(train, max_features=0.6))
    deep_first = {**parameters, "grow_policy": "lossguide", "tree_method": "hist"}
    for ensemble in (
        forest,
        from_booster(boosted(train, 3, seed, **parameters)),
        from_booster(boosted(train, 3, seed, **deep_first)),
    ):
        for start, stop in zip(ensemble.tree_start, ensemble.tree_start[1:], strict=False):
            left, right = ensemble.left[start:stop], ensemble.right[start:stop]
            inner = np.flatnonzero(left != -1)
            assert (right[inner] == left[inner] + 1).all()
            assert (left[inner] > inner).all()
            assert sorted([*left[inner], *right[inner]]) == list(range(1, stop - start))
            if ensemble is forest:
                assert (np.diff(left[inner]) > 0).all(), "breadth first"


@pytest.fixture(scope="module")
def model() -> TreeModel:
    return model_of(boosted(table(9, rows=200), max_depth=3))


def test_a_row_has_the_same_score_alone_and_among_many(model: TreeModel) -> None:
    rows = table(10, rows=2_000, missing=0.1)
    alone = np.concatenate([model.margin(rows[at : at + 1]) for at in range(len(rows))])
    for count in (SMALL_BATCH, SMALL_BATCH + 1, len(rows)):
        together = fraud_score(model.margin(rows[:count]))
        np.testing.assert_allclose(together, fraud_score(alone)[:count], rtol=0, atol=1e-6)


def test_no_rows_have_no_scores(model: TreeModel) -> None:
    empty = np.empty((0, 3), np.float32)
    for way in (model.margin, model.margin_small, model.margin_large):
        assert way(empty).shape == (0,)


@pytest.mark.parametrize("count", [SMALL_BATCH, SMALL_BATCH + 1])
def test_rows_need_not_lie_side_by_side_in_memory(model: TreeModel, count: int) -> None:
    rows = table(11, rows=count)
    read_only = rows.copy()
    read_only.setflags(write=False)
    shifted = np.frombuffer(b"." + rows.tobytes(), np.uint8)[1:].view(np.float32).reshape(count, 3)
    for same in (
        np.asfortranarray(rows),
        np.repeat(rows, 2, axis=0)[::2],
        np.repeat(rows, 2, axis=1)[:, ::2],
        rows[::-1].copy()[::-1],
        read_only,
        shifted,
    ):
        np.testing.assert_array_equal(model.margin(same), model.margin(rows))


@pytest.mark.parametrize("count", [1, SMALL_BATCH + 1])
@pytest.mark.parametrize("kind", ["float64", "float16", "int64", ">f4"])
def test_anything_but_float32_is_refused_at_every_size(
    model: TreeModel, kind: str, count: int
) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        model.margin(np.ones((count, 3), kind))


@pytest.mark.parametrize("shape", [(1, 2), (40, 2), (1, 4), (40, 4), (3,), (0, 2), (1, 1, 3)])
def test_rows_of_another_width_are_refused_with_both_widths(
    model: TreeModel, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, 3\)"):
        model.margin(np.ones(shape, np.float32))


def test_one_model_answers_many_threads_at_once(model: TreeModel) -> None:
    batches = [table(seed, rows=10 + 40 * (seed % 2)) for seed in range(40)]
    expected = [model.margin(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for got, wanted in zip(pool.map(model.margin, batches), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)
