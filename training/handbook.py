"""``sentinel benchmark handbook``: our models beside the published ones, on the public protocol.

Models are compared week by week (see ``protocol``): XGBoost as it was published, refitted here;
``sentinel``, what ``sentinel train`` builds by default from the same seven days; and the same from
four weeks. What profiles knew before the training days is part of the protocol for all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentinel.dataset import load_description
from sentinel.errors import TableError
from sentinel.history import table_features
from sentinel.runtime import TreeModel, fraud_score
from sentinel.table import LabelledTable, read_table
from training.fit import Features, Options, fit
from training.newcomers import Newcomers, newcomers
from training.protocol import DAYS, FIGURES, TEST, VALIDATION, Cards, Week, last_day
from training.published import probabilities, published_features, published_figures, search
from training.quality import Reals
from training.weekly import WeekJudged, calibration_by_week, cost_by_week, cost_rows

BASELINE = "xgboost-published"
OURS = "sentinel"
LONGER = "sentinel-28d"
LONGER_DAYS = 28

OnStep = Callable[[str], None]


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
    plain = published_features(table)
    on_step("making our features")
    features, _ = table_features(table)
    ours = _Ours(cards, features, newcomers(table, features), table)
    validation = [cards.week(start) for start in VALIDATION]
    best, theirs = search(cards, plain, validation, on_step)
    result: dict[str, Any] = {"validation": ours.judged(validation, theirs, on_step), "test": None}
    if cards.covers(TEST[-1]):
        test = [cards.week(start) for start in TEST]
        theirs = [
            probabilities(cards, plain, week, best.depth, best.rate)[best.trees] for week in test
        ]
        result["test"] = ours.judged(test, theirs, on_step)
    return result | {"parameters": {BASELINE: best.as_dict()}, "published": published_figures()}


@dataclass(frozen=True, slots=True)
class _Ours:
    """What ``sentinel train`` would do, on rows whose features are made already."""

    cards: Cards
    features: Features
    new: Newcomers | None
    table: LabelledTable

    def probability(self, week: Week, days: int = DAYS) -> Reals:
        """Calibrated, of the week's judged rows, by a model of so many days."""
        rows = week.trained_on(self.cards.days, days)
        new = None if self.new is None else self.new.of(rows)
        fitted = fit(self.features[rows], self.cards.fraud[rows], Options(), new)
        margin = TreeModel(fitted.xgboost).margin(self.features[week.judged])
        return fitted.calibration(fraud_score(margin))

    def judged(
        self, weeks: Sequence[Week], theirs: Sequence[Reals], on_step: OnStep
    ) -> dict[str, Any]:
        """All that is said of four weeks; ``theirs``: the published model's probabilities."""
        scored = {BASELINE: list(theirs)}
        for name, days in ((OURS, DAYS), (LONGER, LONGER_DAYS)):
            for week in weeks:
                on_step(f"{name}, training days from {week.train_start}")
                scored.setdefault(name, []).append(self.probability(week, days))
        rows = [
            {
                "train_start": week.train_start.isoformat(),
                "model": name,
                **self.cards.figures(week, scores[at]),
            }
            for at, week in enumerate(weeks)
            for name, scores in scored.items()
        ]
        mean = {
            name: {f: float(np.mean([r[f] for r in rows if r["model"] == name])) for f in FIGURES}
            for name in scored
        }
        told = [
            self._told(week, ours, plain)
            for week, ours, plain in zip(weeks, scored[OURS], theirs, strict=True)
        ]
        cost = cost_by_week(told, self.table.description.policy)
        return {
            "weeks": rows, "mean": mean, "calibration": calibration_by_week(told), "cost": cost,
        }  # fmt: skip

    def _told(self, week: Week, ours: Reals, plain: Reals) -> WeekJudged:
        amounts = self.table.transactions.numbers[week.judged, self.table.description.amount_at]
        name = week.train_start.isoformat()
        return WeekJudged(name, self.cards.fraud[week.judged], amounts, ours, plain)


def mean_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Weeks, model and the three figures, for people."""
    for name in ("validation", "test"):
        for model, means in (result[name] or {"mean": {}})["mean"].items():
            yield (name, model, *(f"{means[figure]:.3f}" for figure in FIGURES))
    for model, figures in result["published"]["models"].items():
        yield ("test, published", model, *(f"{figures[figure]:.3f}" for figure in FIGURES))


def calibration_rows(part: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Training start and how true the probabilities were, for people."""
    for week in part["calibration"]:
        yield (
            week["train_start"],
            f"{week['brier_skill']:.3f}",
            f"{week['expected_calibration_error']:.4f}",
            f"{week['mean_probability']:.4f}",
            f"{week['fraud_rate']:.4f}",
        )


TABLES: tuple[tuple[str, tuple[str, ...], Callable[[Mapping[str, Any]], Any]], ...] = (
    ("Means over four weeks", ("weeks", "model", *FIGURES), mean_rows),
    (
        "Are the probabilities true? By validation week",
        ("train_start", "brier_skill", "calibration error", "mean probability", "fraud rate"),
        lambda result: calibration_rows(result["validation"]),
    ),
    (
        "Regret for 1,000 rows over the validation weeks, and what is saved beside it",
        ("decided by", "regret", "saved, 95% interval"),
        lambda result: cost_rows(result["validation"]["cost"]),
    ),
)
"""Title, columns and rows of each table of the result."""
