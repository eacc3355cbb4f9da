"""The novelty lane's forest: how unlike its own customer's past a transaction is.

A forest of all features finds what is rare among all transactions: a customer who spends much, a
terminal that is seldom used. Fraud that nobody has labelled is rather what is unusual *for whom it
happens to*, so the forest is given the features that compare a row with the past of its own entity,
and none that rest on labels.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from sentinel.dataset import DatasetDescription
from sentinel.ensemble import TreeEnsemble
from sentinel.feature_specs import BehaviourFeature, feature_names
from sentinel.trees import from_isolation_forest

COMPARING = frozenset({"ratio_mean", "ratio_median", "ratio_maximum", "zscore"})
"""Kinds of feature that compare a row with its entity's own past."""

FOREST_TREES = 100
FOREST_SAMPLE = 256


def novelty_columns(description: DatasetDescription) -> NDArray[np.intp]:
    """Where the features stand that the novelty lane looks at: those that compare a row with its
    entity's past; all of them where there are none."""
    kinds = [
        isinstance(spec, BehaviourFeature) and spec.kind in COMPARING
        for spec in description.features
        for _ in feature_names(spec)
    ]
    return np.flatnonzero(kinds) if any(kinds) else np.arange(len(kinds))


def fit_forest(rows: NDArray[np.float32], columns: NDArray[np.intp], seed: int) -> TreeEnsemble:
    """A forest of these columns of (n, f) legitimate rows, which asks for no other."""
    forest = IsolationForest(
        n_estimators=FOREST_TREES, max_samples=min(FOREST_SAMPLE, len(rows)), random_state=seed
    ).fit(rows[:, columns])
    narrow = from_isolation_forest(forest)
    return replace(narrow, features=rows.shape[1], feature=columns[narrow.feature].astype(np.int32))
