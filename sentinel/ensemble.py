"""A tree ensemble as flat arrays, read from a file and checked: what every runtime is made of.

Light to import: XGBoost and ONNX, which ``trees`` converts to, take seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleError
from sentinel.ubjson import read_ubjson


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """Binary trees whose leaf values are added to ``base``.

    All arrays have a row a node, trees one after the other, each with its root first, a node before
    its children and siblings adjacent. ``tree_start`` (trees + 1,) int64 are the offsets. A node
    with ``left == -1`` is a leaf and its ``value`` counts; else a row goes ``left`` where
    ``x[feature] < value`` (or x is NaN and ``default_left``), else ``right``; both are counted from
    the tree's root. ``cover`` is how much of the training data came to each node, by weight; all
    zeros where that was not kept.
    """

    features: int
    base: float
    tree_start: NDArray[np.int64]
    feature: NDArray[np.int32]
    value: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    default_left: NDArray[np.bool_]
    cover: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tree_start) - 1


def read_trees(model: bytes) -> TreeEnsemble:
    """The trees of a model file in XGBoost's UBJSON format, without what is added to their sum
    (``base`` is 0).

    :raises BundleError: it is no such file, or holds what is not taken.
    """
    return parse_model(model, lambda _: 0.0)


def parse_model(model: bytes, base: Callable[[dict[str, Any]], float]) -> TreeEnsemble:
    """``ensemble_of`` a file in XGBoost's UBJSON format, whatever its bytes are.

    :raises BundleError: it is no such file, or holds what is not taken.
    """
    try:
        return ensemble_of(read_ubjson(model), base)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"not an XGBoost model in UBJSON: {error}") from error


def ensemble_of(document: dict[str, Any], base: Callable[[dict[str, Any]], float]) -> TreeEnsemble:
    """The trees of a model in XGBoost's JSON format, as parsed; ``base`` is asked, with the
    learner, for what is added to the leaves.

    :raises BundleError: it is no numeric ``gbtree`` of one margin, or cannot be walked. Other
        errors of a wrong lookup or type where the document is of another form.
    """
    learner = document["learner"]
    if learner["gradient_booster"]["name"] != "gbtree":
        raise BundleError(f"expected gbtree, got {learner['gradient_booster']['name']}")
    model = learner["learner_model_param"]
    if int(model["num_class"]) > 1 or int(model["num_target"]) > 1:
        raise BundleError("it has several classes or targets; expected one margin")
    trees = learner["gradient_booster"]["model"]["trees"]
    if not trees:
        raise BundleError("it has no trees")
    if any(
        any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees
    ):
        raise BundleError("a tree has categorical splits or vector leaves; expected numeric ones")
    sizes = [len(tree["left_children"]) for tree in trees]

    def column(name: str, dtype: type) -> NDArray[Any]:
        parts: list[NDArray[Any]] = [np.asarray(tree[name], dtype=dtype) for tree in trees]
        if [len(part) for part in parts] != sizes:
            raise BundleError(f"{name} has not as many entries as its tree has nodes")
        return np.concatenate(parts)

    left = column("left_children", np.int32)
    ensemble = TreeEnsemble(
        features=int(model["num_feature"]),
        base=base(learner),
        tree_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        # A leaf may hold anything here: one that was pruned has a number far out of range.
        feature=np.where(left == -1, 0, column("split_indices", np.int32)).astype(np.int32),
        value=column("split_conditions", np.float32),
        left=left,
        right=column("right_children", np.int32),
        default_left=column("default_left", np.bool_),
        cover=column("sum_hessian", np.float32),
    )
    _check(ensemble)
    return _without_pruned(ensemble)


def _check(ensemble: TreeEnsemble) -> None:
    """Whether every predictor can walk these trees, and ends at a number."""
    sizes = np.diff(ensemble.tree_start)
    last = np.repeat(sizes, sizes) - 1
    node = np.arange(len(last)) - np.repeat(ensemble.tree_start[:-1], sizes)
    inner = ensemble.left != -1
    walkable = (ensemble.left > node) & (ensemble.right == ensemble.left + 1)
    walkable &= (ensemble.right <= last) & (ensemble.feature < ensemble.features)
    if not sizes.all() or not walkable[inner].all() or (ensemble.feature < 0).any():
        raise BundleError("a node is not followed by two adjacent children, or has no feature")
    if not np.isfinite(ensemble.value[~inner]).all() or np.isnan(ensemble.value).any():
        raise BundleError("a leaf is not finite, or a split is not a number")
    if not np.isfinite(ensemble.cover).all() or (ensemble.cover < 0).any():
        raise BundleError("a node's sum of hessians is negative, or not a number")


def _without_pruned(ensemble: TreeEnsemble) -> TreeEnsemble:
    """The same trees without the nodes that XGBoost's ``exact`` method pruned and left in place."""
    roots = ensemble.tree_start[:-1]
    tree = np.repeat(np.arange(len(ensemble)), np.diff(ensemble.tree_start))
    inner = np.flatnonzero(ensemble.left != -1)
    left = roots[tree[inner]] + ensemble.left[inner]
    parents = np.bincount(np.concatenate([roots, left, left + 1]), minlength=len(tree))
    if (parents > 1).any() or not parents[inner].all():
        raise BundleError("a node has two parents, or none and yet children")
    kept = parents == 1
    if kept.all():
        return ensemble
    place = np.cumsum(kept) - 1
    children = np.full(len(tree), -1, dtype=np.int32)
    children[inner] = place[left] - place[roots[tree[inner]]]
    return TreeEnsemble(
        features=ensemble.features,
        base=ensemble.base,
        tree_start=np.append(place[roots], kept.sum()),
        feature=ensemble.feature[kept],
        value=ensemble.value[kept],
        left=children[kept],
        right=np.where(children == -1, -1, children + 1).astype(np.int32)[kept],
        default_left=ensemble.default_left[kept],
        cover=ensemble.cover[kept],
    )
