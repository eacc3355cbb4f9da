"""From a labelled table to a written bundle.

The pipeline runs twice. First on the earlier rows alone, judged on the rows after them: what the
bundle states as its quality was measured on rows later than everything the judged models were
fitted, stopped and calibrated on. Then on all rows, for the models that go live.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from sentinel.bundle import check_destination, write_bundle
from sentinel.features import feature_set
from sentinel.history import end_of, table_features
from sentinel.manifest import (
    DataEntry,
    FileEntry,
    Manifest,
    ModelEntry,
    NoveltyEntry,
    ProfilesEntry,
)
from sentinel.runtime import TreeModel
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.table import LabelledTable
from training.by_week import by_week, spans
from training.card import render_card
from training.delay import label_delay_matters
from training.fit import Features, Fitted, Options, fit
from training.judge import Judged, judged_by
from training.newcomers import Newcomers, newcomers
from training.novelty import novelty_columns
from training.slices import backtest_start

BACKTEST_RESAMPLES = 200
"""Enough for two digits of an interval; ``evaluate`` draws more."""

_LIBRARIES = (
    "sentinelstream",
    "numpy",
    "scipy",
    "pyarrow",
    "numba",
    "scikit-learn",
    "xgboost-cpu",
    "onnxruntime",
    "matplotlib",
)
_FILES = {FRAUD_LANE: "xgboost.ubj", NOVELTY_LANE: "isolation_forest.ubj"}
_NOVELTY_FILE = "novelty.f32"
_PROFILES_FILE = "profiles.msgpack"


@dataclass(frozen=True, slots=True)
class Trained:
    """A bundle as it was written."""

    uri: str
    model_version: str
    manifest: Manifest


def train(table: LabelledTable, uri: str, options: Options | None = None) -> Trained:
    """Trains on ``table`` and writes a bundle to ``uri``; same arguments, same bytes.

    :raises TableError: too few frauds to learn from.
    :raises BundleError: the place holds something else, or cannot be written; the first is said
        before any work is done.
    """
    options = options or Options()
    on_step = options.on_step
    check_destination(uri)
    on_step("making features")
    features, history = table_features(table)
    new = newcomers(table, features, options.seed)
    judged, quality = _backtest(table, features, new, options)
    fitted = fit(features, table.labels, options, new, novelty_columns(table.description))
    files = _files_of(fitted)
    profiles = None
    if history is not None and options.profiles:
        files[_PROFILES_FILE] = history.packed()
        sizes = {name: len(log) for name, log in history.store.profiles.logs.items()}
        profiles = ProfilesEntry(file=_PROFILES_FILE, newest=end_of(history), entities=sizes)
    manifest = _manifest(table, fitted, files, quality, options.seed, profiles)
    on_step("drawing the model card")
    files |= render_card(manifest, judged)
    on_step("writing the bundle")
    return Trained(uri, write_bundle(uri, manifest, files), manifest)


def _backtest(
    table: LabelledTable, features: Features, new: Newcomers | None, options: Options
) -> tuple[Judged | None, dict[str, Any]]:
    """The latest rows, judged by the pipeline trained on all rows before them."""
    start = backtest_start(table.labels)
    if start is None:
        reason = f"{table.frauds} frauds are too few to train on some and be judged on others"
        return None, {"measured": False, "reason": reason}
    told = replace(options, on_step=lambda step: options.on_step(f"backtest: {step}"))
    fitted = fit(
        features[:start], table.labels[:start], told, new, novelty_columns(table.description)
    )
    options.on_step("backtest: judging the rows after")
    judged = judged_by(fitted, table, features, slice(start, len(table)))
    build, times = feature_set(table.description), table.transactions.times
    parts = spans(len(judged.labels), None if times is None else times[start:], start)
    return judged, {
        "measured": True,
        "trained_on": {"rows": start, "until": table.time_of(start)},
        "together": judged.quality(BACKTEST_RESAMPLES).as_dict(),
        "lanes": judged.lanes(BACKTEST_RESAMPLES),
        "decisions": judged.decisions(),
        "weeks": by_week(judged, parts, build.names, features[:start], features[start:]),
        "label_delay": label_delay_matters(table, fitted, start, judged.fraud_score, told),
    }


def _files_of(fitted: Fitted) -> dict[str, bytes]:
    models = {_FILES[name]: model for name, model in fitted.models.items()}
    return {**models, _NOVELTY_FILE: fitted.novelty.to_bytes()}


def _manifest(
    table: LabelledTable,
    fitted: Fitted,
    files: Mapping[str, bytes],
    quality: Mapping[str, Any],
    seed: int,
    profiles: ProfilesEntry | None,
) -> Manifest:
    parameters = {FRAUD_LANE: fitted.parameters, NOVELTY_LANE: fitted.forest_parameters}
    models = {
        name: ModelEntry(
            file=_FILES[name], trees=TreeModel(model).trees, parameters=dict(parameters[name])
        )
        for name, model in fitted.models.items()
    }
    return Manifest(
        description=table.description,
        policy=table.description.policy,
        features=feature_set(table.description).names,
        models=models,
        calibration=fitted.calibration,
        novelty=NoveltyEntry(file=_NOVELTY_FILE, rows=len(fitted.novelty)),
        profiles=profiles,
        data=DataEntry(
            sha256=table.sha256(),
            rows=len(table),
            frauds=table.frauds,
            first=table.time_of(0),
            last=table.time_of(len(table) - 1),
        ),
        seed=seed,
        steps=fitted.steps,
        quality=dict(quality),
        versions={name: version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        files={path: FileEntry.of(data) for path, data in files.items()},
    )
