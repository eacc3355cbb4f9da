"""The bundles that contenders serve: models of the size of the published comparison.

XGBoost with 300 trees of depth 6, an Isolation Forest of 100 trees, trained on labels at random,
since speed is all that is asked of them. One of 30 numeric features, which is what others can serve
too; and a pair of the same raw transactions, with profiles and without.
"""

from importlib.metadata import version

import msgspec
import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from sentinel.bundle import write_bundle
from sentinel.calibration import NoveltyCalibration, SigmoidCalibration
from sentinel.dataset import DatasetDescription, load_description
from sentinel.feature_specs import Behaviour, BehaviourFeature
from sentinel.features import feature_set
from sentinel.history import History, end_of
from sentinel.manifest import (
    DataEntry,
    FileEntry,
    Manifest,
    ModelEntry,
    NoveltyEntry,
    ProfilesEntry,
)
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.transactions import Transactions
from sentinel.trees import from_isolation_forest, to_booster

TREES, DEPTH, FOREST = 300, 6, 100
_ROWS = 20_000


def train_models(
    features: NDArray[np.float32] | None = None, trees: int = TREES
) -> tuple[bytes, bytes]:
    """Both models in the bundle's format: XGBoost's, and the Isolation Forest as its trees.

    ``features`` (n, f) to train them on; without, 30 that are random numbers.
    """
    if features is None:
        features = random_features()
    rng = np.random.default_rng(0)
    odds = _standard(features)[:, :5].sum(axis=1) * 2 - 4
    label = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    parameters = {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 0}
    booster = xgb.train(parameters, xgb.QuantileDMatrix(features, label), trees)
    as_booster = to_booster(from_isolation_forest(isolation_forest(features)))
    return bytes(booster.save_raw("ubj")), bytes(as_booster.save_raw("ubj"))


def random_features() -> NDArray[np.float32]:
    """(n, 30) random numbers, the same each time."""
    return np.random.default_rng(2).normal(size=(_ROWS, 30)).astype(np.float32)


def isolation_forest(features: NDArray[np.float32]) -> IsolationForest:
    """The forest that is fitted to these features, the same each time."""
    return IsolationForest(n_estimators=FOREST, random_state=0).fit(features)


def write_bench_bundle(uri: str) -> str:
    """Writes the bundle of 30 features, by the ``creditcard`` description; its digest."""
    rng = np.random.default_rng(1)
    window = rng.normal(size=(_ROWS, 30)).astype(np.float32)
    return _write(uri, load_description("creditcard"), train_models(), window)


class Pair(msgspec.Struct, frozen=True):
    """Two bundles of the same transactions: folder and digest of each."""

    stateless: tuple[str, str]
    profiles: tuple[str, str]


def write_pair(
    folder: str, past: Transactions, labels: NDArray[np.int8], trees: int = TREES
) -> Pair:
    """Writes the ``transactions`` description's own bundle, with profiles filled from this past,
    and one of the features that need a transaction alone."""
    shipped = load_description("transactions")
    features = feature_set(shipped)
    assert features.plan is not None
    history = History(shipped, features.plan)
    made = features(past, history.note(past, labels))[-_ROWS:]
    alone = alone_description(shipped)
    few = feature_set(alone)(past)[-_ROWS:]
    places = f"{folder}/stateless", f"{folder}/profiles"
    return Pair(
        (places[0], _write(places[0], alone, train_models(few, trees), few)),
        (places[1], _write(places[1], shipped, train_models(made, trees), made, history)),
    )


def alone_description(description: DatasetDescription) -> DatasetDescription:
    """The same fields, with the features that need no profiles."""
    kept = tuple(f for f in description.features if not isinstance(f, BehaviourFeature))
    return description.model_copy(update={"features": kept, "behaviour": Behaviour()})


def _write(
    uri: str,
    description: DatasetDescription,
    models: tuple[bytes, bytes],
    window: NDArray[np.float32],
    history: History | None = None,
) -> str:
    fraud, forest = models
    novelty = NoveltyCalibration(anomaly_score(TreeModel(forest).margin_large(window)))
    files = {
        "xgboost.ubj": fraud,
        "isolation_forest.ubj": forest,
        "novelty.f32": novelty.to_bytes(),
    }
    profiles = None
    if history is not None:
        files["profiles.bin"] = history.packed()
        sizes = {name: len(log) for name, log in history.store.profiles.logs.items()}
        profiles = ProfilesEntry(file="profiles.bin", newest=end_of(history), entities=sizes)
    manifest = Manifest(
        description=description,
        policy=description.policy,
        features=feature_set(description).names,
        models={
            FRAUD_LANE: ModelEntry(file="xgboost.ubj", trees=TreeModel(fraud).trees, parameters={}),
            NOVELTY_LANE: ModelEntry(file="isolation_forest.ubj", trees=FOREST, parameters={}),
        },
        calibration=SigmoidCalibration(slope=1, intercept=0),
        novelty=NoveltyEntry(file="novelty.f32", rows=len(novelty)),
        profiles=profiles,
        data=DataEntry(sha256="random numbers", rows=_ROWS, frauds=0, first=None, last=None),
        seed=0,
        steps=(),
        quality={},
        versions={"xgboost": version("xgboost-cpu")},
        files={name: FileEntry.of(data) for name, data in files.items()},
    )
    return write_bundle(uri, manifest, files)


def _standard(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and deviation 1 of each column; a missing value counts as 0."""
    known = np.nan_to_num(features)
    spread = known.std(axis=0)
    scaled: NDArray[np.float32] = (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled
