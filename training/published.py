"""The Fraud Detection Handbook's XGBoost as it was published, refitted; and its published figures.

Fifteen features, a grid of 18 parameter sets, the one of the best mean average precision on the
validation weeks. The handbook's release of XGBoost split exactly and began at even odds, so this
does too: with ``hist`` no bin edge falls on the amount that one kind of fraud turns on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb

from sentinel.dataset import DatasetDescription
from sentinel.history import table_features
from sentinel.table import LabelledTable
from training.fit import Features
from training.protocol import DAYS, FIGURES, Cards, Week
from training.quality import Reals

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

DEPTHS, RATES, TREES = (3, 6, 9), (0.1, 0.3), (25, 50, 100)

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
"""Of the handbook's own tables, in the order of ``FIGURES``, means over the four test weeks."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A parameter set of the published search."""

    depth: int
    rate: float
    trees: int

    def as_dict(self) -> dict[str, Any]:
        """By XGBoost's own names."""
        return {"max_depth": self.depth, "learning_rate": self.rate, "n_estimators": self.trees}


def published_figures() -> dict[str, Any]:
    """The published figures, as the result states them."""
    return {
        "source": "Fraud Detection Handbook; means over its four test weeks",
        "models": {name: dict(zip(FIGURES, row, strict=True)) for name, row in PUBLISHED.items()},
    }


def published_features(table: LabelledTable) -> Features:
    """(n, 15) of a table of transactions."""
    content = table.description.model_dump(mode="json")
    content |= {"features": FEATURES, "behaviour": {"label_delay": f"{DAYS}d"}}
    described = replace(table, description=DatasetDescription.model_validate(content))
    return table_features(described)[0]


def search(
    cards: Cards, features: Features, weeks: Sequence[Week], on_step: Callable[[str], None]
) -> tuple[Grid, list[Reals]]:
    """The best parameter set of the grid on these weeks, and its probabilities for each."""
    best: tuple[float, Grid, list[Reals]] | None = None
    for depth in DEPTHS:
        for rate in RATES:
            on_step(f"the published grid: depth {depth}, learning rate {rate}")
            by_week = [probabilities(cards, features, week, depth, rate) for week in weeks]
            for trees in TREES:
                mine = [one[trees] for one in by_week]
                mean = float(np.mean([
                    cards.figures(week, one)["average_precision"]
                    for week, one in zip(weeks, mine, strict=True)
                ]))  # fmt: skip
                if best is None or mean > best[0]:
                    best = mean, Grid(depth, rate, trees), mine
    assert best is not None
    return best[1], best[2]


def probabilities(
    cards: Cards, features: Features, week: Week, depth: int, rate: float
) -> dict[int, Reals]:
    """Of the week's judged rows, by number of trees: fewer trees are the first of more."""
    parameters = {
        "objective": "binary:logistic", "max_depth": depth, "learning_rate": rate, "seed": 0,
        "nthread": 1, "base_score": 0.5, "tree_method": "exact",
    }  # fmt: skip
    data = xgb.DMatrix(features[week.train], cards.fraud[week.train])
    booster = xgb.train(parameters, data, max(TREES))
    judged = xgb.DMatrix(features[week.judged])
    return {
        trees: booster.predict(judged, iteration_range=(0, trees)).astype(np.float64)
        for trees in TREES
    }
