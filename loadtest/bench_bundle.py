"""The bundle that every contender serves: models of the size of the published comparison.

30 numeric features, XGBoost with 300 trees of depth 6, an Isolation Forest of 100 trees, trained on
random numbers, since speed is all that is asked of them.
"""

from importlib.metadata import version

import numpy as np
import xgboost as xgb
from sklearn.ensemble import IsolationForest

from sentinel.bundle import write_bundle
from sentinel.calibration import NoveltyCalibration, SigmoidCalibration
from sentinel.dataset import load_description
from sentinel.features import feature_set
from sentinel.manifest import DataEntry, FileEntry, Manifest, ModelEntry, NoveltyEntry
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.trees import from_isolation_forest, to_booster

TREES, DEPTH, FOREST = 300, 6, 100
_ROWS = 20_000


def train_models() -> tuple[bytes, bytes]:
    """Both models in the bundle's format: XGBoost's, and the Isolation Forest as its trees."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(_ROWS, 30)).astype(np.float32)
    odds = features[:, :5].sum(axis=1) * 2 - 4
    label = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    parameters = {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 0}
    booster = xgb.train(parameters, xgb.QuantileDMatrix(features, label), TREES)
    forest = IsolationForest(n_estimators=FOREST, random_state=0).fit(features)
    as_booster = to_booster(from_isolation_forest(forest))
    return bytes(booster.save_raw("ubj")), bytes(as_booster.save_raw("ubj"))


def write_bench_bundle(uri: str) -> str:
    """Writes the bundle, by the ``creditcard`` description, and returns its digest."""
    description = load_description("creditcard")
    fraud, forest = train_models()
    rng = np.random.default_rng(1)
    window = rng.normal(size=(_ROWS, 30)).astype(np.float32)
    novelty = NoveltyCalibration(anomaly_score(TreeModel(forest).margin_large(window)))
    files = {
        "xgboost.ubj": fraud,
        "isolation_forest.ubj": forest,
        "novelty.f32": novelty.to_bytes(),
    }
    manifest = Manifest(
        description=description,
        policy=description.policy,
        features=feature_set(description).names,
        models={
            FRAUD_LANE: ModelEntry(file="xgboost.ubj", trees=TREES, parameters={}),
            NOVELTY_LANE: ModelEntry(file="isolation_forest.ubj", trees=FOREST, parameters={}),
        },
        calibration=SigmoidCalibration(slope=1, intercept=0),
        novelty=NoveltyEntry(file="novelty.f32", rows=len(novelty)),
        data=DataEntry(sha256="random numbers", rows=_ROWS, frauds=0, first=None, last=None),
        seed=0,
        steps=(),
        quality={},
        versions={"xgboost": version("xgboost-cpu")},
        files={name: FileEntry.of(data) for name, data in files.items()},
    )
    return write_bundle(uri, manifest, files)
