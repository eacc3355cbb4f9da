"""The bundles that contenders serve: models of the size of the published comparison.

XGBoost with 300 trees of depth 6, an Isolation Forest of 100 trees, trained on labels at random,
since speed is all that is asked of them. They are calibrated so that one transaction in a hundred
is flagged, as in a service that analysts can live with: each that is flagged costs its reasons. One
bundle of 30 numeric features, which is what others can serve too; and a pair of the same raw
transactions, with profiles and without.
"""

import json
from collections.abc import Callable
from importlib.metadata import version

import msgspec
import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from sentinel.bundle import write_bundle
from sentinel.calibration import NoveltyCalibration, SigmoidCalibration
from sentinel.dataset import DatasetDescription, load_description
from sentinel.decision import APPROVE, decide
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
from sentinel.runtime import TreeModel, anomaly_score, fraud_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.transactions import Transactions
from sentinel.trees import from_isolation_forest, to_booster

TREES, DEPTH, FOREST = 300, 6, 100
FLAGGED = 0.01
"""Share of transactions that is reviewed or blocked."""
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


def random_features(seed: int = 2) -> NDArray[np.float32]:
    """(n, 30) of transactions that are random numbers, the same for each seed."""
    values = random_values(_ROWS, seed)
    return np.column_stack([values, np.log1p(values[:, -1])]).astype(np.float32)


def random_values(count: int, seed: int) -> NDArray[np.float64]:
    """(count, 29) fields of such transactions, the last of them an amount."""
    values = np.random.default_rng(seed).normal(size=(count, 29)).round(6)
    values[:, -1] = (np.abs(values[:, -1]) * 100).round(2)
    return values


def isolation_forest(features: NDArray[np.float32]) -> IsolationForest:
    """The forest that is fitted to these features, the same each time."""
    return IsolationForest(n_estimators=FOREST, random_state=0).fit(features)


def write_bench_bundle(uri: str) -> str:
    """Writes the bundle of 30 features, by the ``creditcard`` description; its digest."""
    recent = random_features(3)
    return _write(uri, load_description("creditcard"), train_models(), recent, recent[:, -2])


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
    made = features(past, history.note(past, labels))
    alone = alone_description(shipped)
    few = feature_set(alone)(past)
    places = f"{folder}/stateless", f"{folder}/profiles"
    # The newest are kept back from training: on what it has seen, a model is too sure of itself.
    recent = slice(-min(_ROWS, len(past) // 2), None)
    before = slice(2 * recent.start, recent.start)
    amounts = past.numbers[recent, shipped.amount_at]

    def written(
        place: str, of: DatasetDescription, rows: NDArray[np.float32], filled: History | None
    ) -> tuple[str, str]:
        models = train_models(rows[before], trees)
        return place, _write(place, of, models, rows[recent], amounts, filled)

    return Pair(written(places[0], alone, few, None), written(places[1], shipped, made, history))


def alone_description(description: DatasetDescription) -> DatasetDescription:
    """The same fields, with the features that need no profiles."""
    kept = tuple(f for f in description.features if not isinstance(f, BehaviourFeature))
    return description.model_copy(update={"features": kept, "behaviour": Behaviour()})


def _write(
    uri: str,
    description: DatasetDescription,
    models: tuple[bytes, bytes],
    recent: NDArray[np.float32],
    amounts: NDArray[np.floating],
    history: History | None = None,
) -> str:
    """``recent`` (n, f) features that the models were not trained on, and ``amounts`` (n,)."""
    forest = models[1]
    anomaly = anomaly_score(TreeModel(forest).margin_large(recent))
    novelty = NoveltyCalibration(anomaly)
    money, novelty_p = amounts.astype(np.float64), novelty(anomaly)

    def flagged(margin: NDArray[np.float64]) -> float:
        decision = decide(description.policy, money, fraud_score(margin), novelty_p)
        return float(np.mean(decision != APPROVE))

    fraud = _flagging(models[0], recent, flagged)
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


def _flagging(
    model: bytes,
    recent: NDArray[np.float32],
    flagged: Callable[[NDArray[np.float64]], float],
) -> bytes:
    """The model, less sure of fraud until ``FLAGGED`` of these are flagged: other contenders know
    of no calibration."""
    margin = TreeModel(model).margin_large(recent)
    low, high = -40.0, 40.0
    for _ in range(40):  # the share grows with what is added
        middle = (low + high) / 2
        low, high = (low, middle) if flagged(margin + middle) > FLAGGED else (middle, high)
    booster = xgb.Booster(model_file=bytearray(model))
    document = json.loads(booster.save_raw("json"))
    # Into the leaves of a tree: XGBoost clips the score that it starts from.
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    for node, left in enumerate(tree["left_children"]):
        if left == -1:
            tree["split_conditions"][node] += low
    booster.load_model(bytearray(json.dumps(document).encode()))
    return bytes(booster.save_raw("ubj"))


def _standard(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and deviation 1 of each column; a missing value counts as 0."""
    known = np.nan_to_num(features)
    spread = known.std(axis=0)
    scaled: NDArray[np.float32] = (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled
