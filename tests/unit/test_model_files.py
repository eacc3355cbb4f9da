"""Model files: what goes into one comes out, and what is none is refused, whatever its bytes."""

import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.errors import BundleError
from sentinel.runtime import SMALL_BATCH, TreeModel
from sentinel.trees import TreeEnsemble, from_booster, read_ensemble, to_booster
from sentinel.ubjson import read_ubjson


def table() -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(size=(200, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def grown() -> xgb.Booster:
    rows = table()
    labels = (rows.sum(axis=1) > 0).astype(int)
    parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    return xgb.train(parameters, xgb.DMatrix(rows, labels), 5)


@st.composite
def ensembles(draw: st.DrawFn) -> TreeEnsemble:
    """Any trees at all, with any finite numbers, in breadth-first order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    starts, left = [0], []
    for _ in range(draw(st.integers(1, 4))):
        nodes, at = 1, 0
        while at < nodes:
            splits = nodes < 11 and rng.random() < 0.6
            left.append(nodes if splits else -1)
            nodes, at = nodes + 2 * splits, at + 1
        starts.append(len(left))
    children = np.array(left, np.int32)
    inner = children != -1
    features = draw(st.integers(1, 3))
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    value = draw(st.lists(numbers, min_size=len(left), max_size=len(left)))
    return TreeEnsemble(
        features=features,
        base=float(np.float32(draw(st.floats(-30, 30)))),
        tree_start=np.array(starts, np.int64),
        feature=np.where(inner, rng.integers(features, size=len(left)), 0).astype(np.int32),
        value=np.array(value, np.float32),
        left=children,
        right=np.where(inner, children + 1, -1).astype(np.int32),
        default_left=inner & (rng.random(len(left)) < 0.5),
        cover=rng.random(len(left), np.float32),
    )


def assert_equal(one: TreeEnsemble, other: TreeEnsemble) -> None:
    assert (one.features, one.base) == (other.features, other.base)
    for name in ("tree_start", "feature", "value", "left", "right", "default_left", "cover"):
        got, wanted = getattr(one, name), getattr(other, name)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@settings(max_examples=25)
@given(ensembles())
def test_an_ensemble_survives_the_way_through_a_booster_and_its_file(
    ensemble: TreeEnsemble,
) -> None:
    booster = to_booster(ensemble)
    assert_equal(from_booster(booster), ensemble)
    assert_equal(read_ensemble(bytes(booster.save_raw("ubj"))), ensemble)


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"{",
        b"{}",
        b"[",
        b"{L",
        b"[#U\xff",
        b"[#i\xff",
        b"[$T#U\x01",
        b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[#U\x01" * 5_000,
        b"SU\x01\xff",
        b"{U\x07learner{}}",
        b'{"learner": {}}',
        b"binf" + b"\0" * 300,
        b"no model",
    ],
    ids=lambda model: repr(model[:12]),
)
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    with pytest.raises(BundleError, match="not an XGBoost model"):
        TreeModel(model)


def test_a_model_is_refused_wherever_it_was_cut_off_or_went_on(grown: xgb.Booster) -> None:
    whole = bytes(grown.save_raw("ubj"))
    for cut in [*range(60), *range(60, len(whole), 97), len(whole) - 1]:
        with pytest.raises(BundleError):
            TreeModel(whole[:cut])
    with pytest.raises(BundleError, match="it ends at byte"):
        TreeModel(whole + b" ")


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_model_is_refused_or_runs_but_never_ends_the_process(
    grown: xgb.Booster, data: st.DataObject
) -> None:
    damaged = bytearray(grown.save_raw("ubj"))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = TreeModel(bytes(damaged))
    except BundleError:
        return
    rows = np.zeros((SMALL_BATCH + 1, min(model.features, 10_000)), np.float32)
    if model.features == rows.shape[1]:
        assert not np.isnan(model.margin(rows)).any()


def test_the_reader_of_model_files_sees_what_xgboost_writes_as_json(grown: xgb.Booster) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list | np.ndarray):
            return [plain(inner) for inner in value]
        return np.float32(value) if isinstance(value, float | np.floating) else value

    read = read_ubjson(bytes(grown.save_raw("ubj")))
    assert plain(read) == plain(json.loads(grown.save_raw("json")))


OTHER_KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "dart": ({"booster": "dart"}, {}, "expected gbtree, got dart"),
    "linear": ({"booster": "gblinear"}, {}, "expected gbtree, got gblinear"),
    "classes": ({"objective": "multi:softprob", "num_class": 3}, {}, "several classes"),
    "categories": (
        {"max_cat_to_onehot": 1, "tree_method": "hist"},
        {"feature_types": ["c", "q", "q"], "enable_categorical": True},
        "categorical splits",
    ),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_models_this_product_cannot_run_are_refused_by_what_they_are(kind: str) -> None:
    parameters, matrix, problem = OTHER_KINDS[kind]
    rows = np.abs(np.round(table()))
    data = xgb.DMatrix(rows, (rows[:, 0] % 2).astype(int), **matrix)
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1, **parameters}, data, 2)
    with pytest.raises(BundleError, match=problem):
        TreeModel(bytes(booster.save_raw("ubj")))


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_a_model_of_two_targets_is_refused(strategy: str) -> None:
    rows = table()
    booster = xgb.train(
        {"multi_strategy": strategy, "tree_method": "hist", "nthread": 1},
        xgb.DMatrix(rows, rows[:, :2]),
        2,
    )
    with pytest.raises(BundleError, match="targets"):
        TreeModel(bytes(booster.save_raw("ubj")))


def test_a_model_without_a_tree_is_refused() -> None:
    booster = xgb.train({"nthread": 1}, xgb.DMatrix(table(), table()[:, 0]), 0)
    with pytest.raises(BundleError, match="no trees"):
        TreeModel(bytes(booster.save_raw("ubj")))


def test_trees_that_no_predictor_could_walk_are_refused(grown: xgb.Booster) -> None:
    whole = bytes(grown.save_raw("ubj"))

    def with_first(name: str, at: int, number: int, kind: str = ">i4") -> bytes:
        """The file with one entry of this array of its first tree changed."""
        start = whole.index(name.encode()) + len(name) + len("[$l#L") + 8
        entry = np.array(number, kind).tobytes()
        start += at * len(entry)
        return whole[:start] + entry + whole[start + len(entry) :]

    for broken in (
        with_first("left_children", 0, 0),  # its own child
        with_first("left_children", 0, 3),  # not next to its sibling
        with_first("left_children", 1, 1),  # round in a circle
        with_first("left_children", 0, 2**31 - 1),
        with_first("right_children", 0, 10**6),
        with_first("right_children", 0, 4),
        with_first("split_indices", 0, 3),  # no such feature
        with_first("split_indices", 0, -1),
        with_first("split_conditions", 0, np.nan, ">f4"),
        with_first("split_conditions", -1, np.nan, ">f4"),
    ):
        assert broken != whole
        with pytest.raises(BundleError):
            TreeModel(broken)


@pytest.mark.parametrize("base", [b"[-5.0E-1]", b"[2.00E+0]", b"[1.0E+99]", b"[-------]"])
def test_a_base_that_is_no_probability_is_refused(grown: xgb.Booster, base: bytes) -> None:
    whole = bytes(grown.save_raw("ubj"))
    assert whole.count(b"[5.05E-1]") == 1
    with pytest.raises(BundleError):
        TreeModel(whole.replace(b"[5.05E-1]", base))
