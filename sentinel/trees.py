"""Tree ensembles in an open format, and the conversions between the forms that are fast to run.

On disk both models are XGBoost's documented UBJSON model format: the supervised one because that
is what it is, the scikit-learn Isolation Forest because a forest of depths is a sum of trees too.
No pickle is written or read. In memory an ensemble is a handful of flat arrays, from which an ONNX
graph for small batches is built when a bundle is loaded.

XGBoost is only ever given trees that were read and checked here: a file that is damaged, or made to
be, would crash the process.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from sentinel.ensemble import TreeEnsemble, ensemble_of, parse_model
from sentinel.errors import BundleError
from sentinel.xgboost_alone import xgboost as xgb

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

_EULER = 0.5772156649015329
_ONNX_ML_OPSET = 3
"""The newest operator set whose TreeEnsembleRegressor ONNX Runtime runs with its fast kernels."""


def read_ensemble(model: bytes) -> TreeEnsemble:
    """The trees of a model file in XGBoost's UBJSON format, whatever its bytes are.

    :raises BundleError: it is no such file, or holds what ``from_booster`` does not take.
    """
    return parse_model(model, _base_margin)


def from_booster(booster: xgb.Booster) -> TreeEnsemble:
    """The trees of a numeric ``gbtree`` booster; the sum is its margin (before any sigmoid).

    :raises BundleError: it holds something else (categorical splits, dart, several classes or
        targets), or no trees at all.
    """
    return ensemble_of(json.loads(booster.save_raw("json")), _base_margin)


def _base_margin(learner: dict[str, Any]) -> float:
    """What XGBoost adds to the leaves, asked of itself with a tree that adds nothing.

    A file holds it as it looks through the objective's link function, which XGBoost clips and
    computes in float32; done again here it would be right for some objectives and some numbers.
    """
    nothing = TreeEnsemble(
        features=1,
        base=0.0,
        tree_start=np.array([0, 1]),
        feature=np.zeros(1, np.int32),
        value=np.zeros(1, np.float32),
        left=np.array([-1], np.int32),
        right=np.array([-1], np.int32),
        default_left=np.zeros(1, np.bool_),
        cover=np.zeros(1, np.float32),
    )
    score = learner["learner_model_param"]["base_score"].strip("[]")
    booster = _load(_document(nothing, score, learner["objective"]))
    try:  # XGBoost looks at the number only when it is used
        margin = booster.inplace_predict(np.zeros((1, 1), np.float32), predict_type="margin")[0]
    except xgb.core.XGBoostError as error:
        raise BundleError(f"base_score {score} cannot be used") from error
    if not np.isfinite(margin):
        raise BundleError(f"base_score {score} gives {margin}, expected a finite margin")
    return float(margin)


def from_isolation_forest(forest: "IsolationForest") -> TreeEnsemble:
    """The forest as a sum whose value m gives its anomaly score as ``2 ** -(1 + m)``.

    scikit-learn's score is ``-(2 ** -(E / c))`` with E the mean path length and c that of a random
    search tree of the sample size. Leaves hold their share of ``E / c - 1``: values near zero, so
    that adding a hundred of them in float32 loses nothing that matters.
    """
    sample = float(_average_path_length(np.array([forest.max_samples_]))[0])
    scale = 1 / (sample * len(forest.estimators_)) if sample else 0.0
    trees = [
        _isolation_tree(tree.tree_, features, sample, scale)
        for tree, features in zip(forest.estimators_, forest.estimators_features_, strict=True)
    ]
    sizes = [len(tree["left"]) for tree in trees]
    joined = {name: np.concatenate([tree[name] for tree in trees]) for name in trees[0]}
    return TreeEnsemble(
        features=forest.n_features_in_,
        base=0.0,
        tree_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        **joined,
    )


def _isolation_tree(
    tree: Any, features: NDArray[np.intp], sample: float, scale: float
) -> dict[str, NDArray[Any]]:
    """One scikit-learn tree, its nodes renumbered breadth-first with siblings adjacent.

    XGBoost's predictor takes the right child to be next to the left one and does not look: any
    other order gives wrong scores without an error.
    """
    old_left, old_right = tree.children_left, tree.children_right
    order, depth = [0], [0]
    left, right = [], []
    for at, node in enumerate(order):  # grows while it is walked
        if old_left[node] == -1:
            left.append(-1)
            right.append(-1)
            continue
        left.append(len(order))
        right.append(len(order) + 1)
        order += [int(old_left[node]), int(old_right[node])]
        depth += [depth[at] + 1] * 2
    nodes = np.array(order)
    leaf = np.array(left) == -1
    path = np.array(depth) + _average_path_length(tree.n_node_samples[nodes])
    split = _just_above(tree.threshold[nodes])
    asked = np.where(leaf, 0, tree.feature[nodes])  # a leaf's is -2, which a forest of parts lacks
    return {
        "feature": np.where(leaf, 0, features[asked]).astype(np.int32),
        "value": np.where(leaf, (path - sample) * scale, split).astype(np.float32),
        "left": np.array(left, dtype=np.int32),
        "right": np.array(right, dtype=np.int32),
        "default_left": np.where(leaf, False, tree.missing_go_to_left[nodes].astype(bool)),
        "cover": tree.weighted_n_node_samples[nodes].astype(np.float32),
    }


def _just_above(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The float32 t' for which ``x < t'`` is ``x <= threshold`` at every float32 x."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
        below = np.nextafter(near, np.float32(-np.inf))
        floor = np.where(near.astype(np.float64) > threshold, below, near)
        return np.nextafter(floor, np.float32(np.inf))


def _average_path_length(samples: NDArray[Any]) -> NDArray[np.float64]:
    """Mean depth of a failed search in a binary search tree of n samples (Liu et al. 2008)."""
    n = np.asarray(samples, dtype=np.float64)
    many = np.maximum(n, 3)
    large = 2 * (np.log(many - 1) + _EULER) - 2 * (many - 1) / many
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, large))


def to_booster(ensemble: TreeEnsemble) -> xgb.Booster:
    """A booster whose margin is the ensemble's sum."""
    identity = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    return _load(_document(ensemble, repr(ensemble.base), identity))


def _load(document: dict[str, Any]) -> xgb.Booster:
    booster = xgb.Booster()
    try:
        booster.load_model(bytearray(json.dumps(document).encode()))
    except xgb.core.XGBoostError as error:
        raise BundleError(f"XGBoost does not take the model: {error}") from error
    return booster


def _document(ensemble: TreeEnsemble, base_score: str, objective: dict[str, Any]) -> dict[str, Any]:
    """A model in XGBoost's JSON format."""
    trees = [_booster_tree(ensemble, number) for number in range(len(ensemble))]
    count = str(len(trees))
    return {
        "version": [3, 0, 0],
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "objective": objective,
            "learner_model_param": {
                "base_score": f"[{base_score}]",
                "boost_from_average": "0",
                "num_class": "0",
                "num_feature": str(ensemble.features),
                "num_target": "1",
            },
            "gradient_booster": {
                "name": "gbtree",
                "model": {
                    "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": count},
                    "iteration_indptr": list(range(len(trees) + 1)),
                    "tree_info": [0] * len(trees),
                    "trees": trees,
                },
            },
        },
    }


def _booster_tree(ensemble: TreeEnsemble, number: int) -> dict[str, Any]:
    nodes = slice(ensemble.tree_start[number], ensemble.tree_start[number + 1])
    left = ensemble.left[nodes]
    size = len(left)
    parents = np.full(size, 2**31 - 1, dtype=np.int64)
    inner = np.flatnonzero(left != -1)
    parents[left[inner]] = inner
    parents[ensemble.right[nodes][inner]] = inner
    zeros = [0.0] * size
    cover = ensemble.cover[nodes].astype(float).tolist()
    return {
        "id": number,
        "base_weights": zeros,
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": ensemble.default_left[nodes].astype(int).tolist(),
        "left_children": left.tolist(),
        "right_children": ensemble.right[nodes].tolist(),
        "loss_changes": zeros,
        "sum_hessian": cover,
        "parents": parents.tolist(),
        "split_conditions": ensemble.value[nodes].astype(float).tolist(),
        "split_indices": ensemble.feature[nodes].tolist(),
        "split_type": [0] * size,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(ensemble.features),
            "num_nodes": str(size),
            "size_leaf_vector": "1",
        },
    }


def to_onnx(ensemble: TreeEnsemble) -> onnx.ModelProto:
    """An ONNX graph from ``features`` (n, f) float32 to ``margin`` (n, 1) float32."""
    sizes = np.diff(ensemble.tree_start)
    tree_of = np.repeat(np.arange(len(sizes)), sizes)
    node_of = np.arange(len(tree_of)) - np.repeat(ensemble.tree_start[:-1], sizes)
    leaf = ensemble.left == -1
    modes = np.where(leaf, "LEAF", "BRANCH_LT").tolist()
    node = helper.make_node(
        "TreeEnsembleRegressor",
        inputs=["features"],
        outputs=["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[ensemble.base],
        nodes_treeids=tree_of.tolist(),
        nodes_nodeids=node_of.tolist(),
        nodes_featureids=ensemble.feature.tolist(),
        nodes_values=np.where(leaf, 0, ensemble.value).tolist(),
        nodes_hitrates=[1.0] * len(leaf),
        nodes_modes=modes,
        nodes_truenodeids=np.where(leaf, 0, ensemble.left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, ensemble.right).tolist(),
        nodes_missing_value_tracks_true=ensemble.default_left.astype(int).tolist(),
        target_treeids=tree_of[leaf].tolist(),
        target_nodeids=node_of[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=ensemble.value[leaf].tolist(),
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, ensemble.features])],
        [helper.make_tensor_value_info("margin", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", _ONNX_ML_OPSET), helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
