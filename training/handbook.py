"""``sentinel benchmark handbook``: our models beside the published ones, on the public protocol.

Models are compared week by week (see ``protocol``): XGBoost as it was published, refitted here;
``sentinel``, what ``sentinel train`` builds by default from the same seven days; and the same from
four weeks. What profiles knew before the training days is part of the protocol for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb

from sentinel.dataset import DatasetDescription, load_description
from sentinel.errors import TableError
from sentinel.history import table_features
from sentinel.runtime import TreeModel, fraud_score
from sentinel.table import LabelledTable, read_table
from training.fit import Features, Options, fit
from training.newcomers import Newcomers, newcomers
from training.protocol import DAYS, TEST, VALIDATION, Cards, Week, last_day
from training.quality import Reals

BASELINE = "xgboost-published"
OURS = "sentinel"
LONGER = "sentinel-28d"
LONGER_DAYS = 28

FIGURES = ("auc", "average_precision", "card_precision_at_100")

FEATURES: tuple[Any, ...] = (
    "amount",
    "weekend",
    "night",
    {"kind": "count", "by": "customer_id", "over": ["1d", "7d", "30d"]},
    {"kind": "mean", "by": "customer_id", "over": ["1d", "7d", "30d"]},
    {"kind": "known_count", "by": "terminal_id", "over": ["1d", "7d", "30d"]},
    {"kind": "known_fraud_rate", "by": "terminal_id", "over": ["1d", "7d", "30d"]},
)
"""The handbook's 15."""

GRID_DEPTHS, GRID_RATES, GRID_TREES = (3, 6, 9), (0.1, 0.3), (25, 50, 100)

PUBLISHED: Mapping[str, tuple[float, float, float]] = {
    "logistic regression": (0.868, 0.623, 0.298),
    "random forest": (0.870, 0.678, 0.299),
    "XGBoost": (0.869, 0.687, 0.303),
    "XGBoost, weighted": (0.872, 0.687, 0.300),
    "best resampling ensemble": (0.879, 0.680, 0.305),
    "feed-forward network": (0.876, 0.675, 0.303),
    "best sequence model": (0.874, 0.667, 0.295),
    "Isolation Forest alone": (0.808, 0.164, 0.190),
    "autoencoder alone": (0.836, 0.180, 0.217),
}
"""Figures of the handbook's own tables, in the order of ``FIGURES``, on the four test weeks."""

OnStep = Callable[[str], None]
Scored = list[tuple[Week, dict[str, Reals]]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A parameter set of the published search."""

    depth: int
    rate: float
    trees: int

    def as_dict(self) -> dict[str, Any]:
        """By XGBoost's own names."""
        return {"max_depth": self.depth, "learning_rate": self.rate, "n_estimators": self.trees}


def benchmark_handbook(path: str, on_step: OnStep = lambda _: None) -> dict[str, Any]:
    """The result of ``sentinel benchmark handbook --json``.

    :raises TableError: the file cannot be used, or ends before the validation weeks do.
    """
    on_step("reading the table")
    table = read_table(path, load_description("transactions"))
    cards = Cards.of(table)
    if not all(cards.covers(start) for start in VALIDATION):
        raise TableError(
            f"{path}: ends on {last_day(cards)}; the protocol's validation weeks need every day "
            f"from {VALIDATION[0]} to {VALIDATION[-1]} and {3 * DAYS - 1} days after"
        )
    on_step("making the handbook's features")
    baseline = _baseline_features(table)
    validation = [cards.week(start) for start in VALIDATION]
    test = [cards.week(start) for start in TEST] if cards.covers(TEST[-1]) else None
    searched = _search(cards, baseline, validation, on_step)
    best = max(searched, key=lambda grid: _mean(searched[grid], "average_precision"))
    on_step("making our features")
    features, _ = table_features(table)
    ours = _Ours(cards, features, newcomers(table, features))
    result: dict[str, Any] = {
        "validation": _judge(validation, ours, {BASELINE: searched[best]}, on_step)
    }
    result["test"] = None
    if test is not None:
        fresh = [_grid_figures(cards, baseline, week, best.depth, best.rate)[best] for week in test]
        result["test"] = _judge(test, ours, {BASELINE: fresh}, on_step)
    return result | {"parameters": {BASELINE: best.as_dict()}, "published": published()}


def published() -> dict[str, Any]:
    """The published figures: on the test weeks alone."""
    return {
        "source": "Fraud Detection Handbook, test weeks",
        "models": {name: dict(zip(FIGURES, row, strict=True)) for name, row in PUBLISHED.items()},
    }


def _baseline_features(table: LabelledTable) -> Features:
    content = table.description.model_dump(mode="json")
    content |= {"features": FEATURES, "behaviour": {"label_delay": f"{DAYS}d"}}
    described = replace(table, description=DatasetDescription.model_validate(content))
    return table_features(described)[0]


def _search(
    cards: Cards, features: Features, weeks: Sequence[Week], on_step: OnStep
) -> dict[Grid, list[dict[str, float]]]:
    """The figures of every parameter set of the grid, a dict for each week."""
    found: dict[Grid, list[dict[str, float]]] = {}
    for depth in GRID_DEPTHS:
        for rate in GRID_RATES:
            on_step(f"the published grid: depth {depth}, learning rate {rate}")
            for week in weeks:
                figures = _grid_figures(cards, features, week, depth, rate)
                for grid, one in figures.items():
                    found.setdefault(grid, []).append(one)
    return found


def _grid_figures(
    cards: Cards, features: Features, week: Week, depth: int, rate: float
) -> dict[Grid, dict[str, float]]:
    """The figures of one week by number of trees: fewer are the first of more."""
    parameters = {
        "objective": "binary:logistic", "max_depth": depth, "learning_rate": rate, "seed": 0,
        "nthread": 1, "base_score": 0.5, "tree_method": "exact",
    }  # fmt: skip
    data = xgb.DMatrix(features[week.train], cards.fraud[week.train])
    booster = xgb.train(parameters, data, max(GRID_TREES))
    judged = xgb.DMatrix(features[week.judged])
    return {
        Grid(depth, rate, trees): cards.figures(
            week, booster.predict(judged, iteration_range=(0, trees)).astype(np.float64)
        )
        for trees in GRID_TREES
    }


@dataclass(frozen=True, slots=True)
class _Ours:
    """What ``sentinel train`` would do, on rows whose features are made already."""

    cards: Cards
    features: Features
    new: Newcomers | None

    def figures(self, week: Week, days: int) -> dict[str, float]:
        """The week's figures of a model of so many days."""
        rows = week.trained_on(self.cards.days, days)
        new = None if self.new is None else self.new.of(rows)
        fitted = fit(self.features[rows], self.cards.fraud[rows], Options(), new)
        margin = TreeModel(fitted.xgboost).margin(self.features[week.judged])
        return self.cards.figures(week, fitted.calibration(fraud_score(margin)))


def _judge(
    weeks: Sequence[Week],
    ours: _Ours,
    others: Mapping[str, Sequence[dict[str, float]]],
    on_step: OnStep,
) -> dict[str, Any]:
    """Every model's figures by week, and their means."""
    found: dict[str, list[dict[str, float]]] = {name: list(rows) for name, rows in others.items()}
    for name, days in ((OURS, DAYS), (LONGER, LONGER_DAYS)):
        for week in weeks:
            on_step(f"{name}, training days from {week.train_start}")
            found.setdefault(name, []).append(ours.figures(week, days))
    return {
        "weeks": [
            {"train_start": week.train_start.isoformat(), "model": name, **rows[at]}
            for at, week in enumerate(weeks)
            for name, rows in found.items()
        ],
        "mean": {
            name: {figure: _mean(rows, figure) for figure in FIGURES}
            for name, rows in found.items()
        },
    }


def _mean(rows: Sequence[Mapping[str, float]], figure: str) -> float:
    return float(np.mean([row[figure] for row in rows]))


def table_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """The means as a table for people: weeks, model, and the three figures."""
    for name in ("validation", "test"):
        for model, means in (result[name] or {"mean": {}})["mean"].items():
            yield (name, model, *(f"{means[figure]:.3f}" for figure in FIGURES))
    for model, figures in result["published"]["models"].items():
        yield ("test, published", model, *(f"{figures[figure]:.3f}" for figure in FIGURES))
