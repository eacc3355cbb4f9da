"""What ``sentinel benchmark unseen`` says: recalls, and how far above those of XGBoost alone."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BASELINE = "xgboost"

RESAMPLES = 2000
MAY_LOSE = 0.01
"""Recall of known fraud that a variant may give up to be chosen."""

Key = tuple[str, int, str, str]
"""Period, scenario left out, how, and variant."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Of each day (d,): compromised cards of the unseen scenario and of the known ones, (d, 2), and
    those of them that were found."""

    cards: NDArray[np.int64]
    found: NDArray[np.int64]


def report(tallies: Mapping[Key, Sequence[Tally]]) -> dict[str, Any]:
    """Each period by scenario, mode and variant, and the variant that is chosen on validation."""
    found: dict[str, Any] = {"chosen": chosen(tallies), "validation": {}, "test": None}
    for (period, scenario, mode, variant), weeks in tallies.items():
        alone = _joined(tallies[period, scenario, mode, BASELINE])
        found[period] = found[period] or {}
        place = found[period].setdefault(str(scenario), {}).setdefault(mode, {})
        place[variant] = _figures(_joined(weeks), alone)
    return found


def chosen(tallies: Mapping[Key, Sequence[Tally]]) -> str:
    """The variant of the highest mean recall of unseen fraud on the validation weeks, of those that
    give up at most ``MAY_LOSE`` of the mean recall of known fraud."""
    means: dict[str, list[NDArray[np.float64]]] = {}
    for (period, _, _, variant), weeks in tallies.items():
        if period == "validation":
            means.setdefault(variant, []).append(_recall(_joined(weeks)))
    recalls = {variant: np.mean(each, axis=0) for variant, each in means.items()}
    least = recalls[BASELINE][1] - MAY_LOSE
    return max((v for v in recalls if recalls[v][1] >= least), key=lambda v: float(recalls[v][0]))


def _joined(weeks: Sequence[Tally]) -> Tally:
    return Tally(np.concatenate([w.cards for w in weeks]), np.concatenate([w.found for w in weeks]))


def _recall(tally: Tally) -> NDArray[np.float64]:
    """(2,) of the unseen scenario and of the known ones."""
    recall: NDArray[np.float64] = tally.found.sum(axis=0) / np.maximum(tally.cards.sum(axis=0), 1)
    return recall


def _figures(tally: Tally, alone: Tally) -> dict[str, Any]:
    """Recalls, and their differences from XGBoost alone: days are drawn again, the same ones for
    both."""
    days = len(tally.cards)
    drawn = np.random.default_rng(0).integers(days, size=(RESAMPLES, days))
    cards = np.maximum(tally.cards[drawn].sum(axis=1), 1)
    own = tally.found[drawn].sum(axis=1) / cards
    gain = own - alone.found[drawn].sum(axis=1) / cards
    values, gains = _recall(tally), _recall(tally) - _recall(alone)
    total = tally.cards.sum(axis=0)
    return {
        name: {
            "cards": int(total[at]),
            "recall": _interval(values[at], own[:, at]),
            "above_xgboost": _interval(gains[at], gain[:, at]),
        }
        for at, name in enumerate(("unseen", "known"))
    }


def _interval(value: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        name: round(float(each), 4)
        for name, each in (("value", value), ("low", low), ("high", high))
    }


def unseen_rows(result: Mapping[str, Any], period: str = "validation") -> list[list[str]]:
    """A row for each scenario, mode and variant: recalls and differences, with their intervals."""
    return [
        [scenario, mode, variant + (" (chosen)" if variant == result["chosen"] else "")]
        + [_told(each[part][figure]) for part in ("unseen", "known") for figure in FIGURES]
        for scenario, modes in (result[period] or {}).items()
        for mode, variants in modes.items()
        for variant, each in variants.items()
    ]


FIGURES = ("recall", "above_xgboost")
COLUMNS = (
    "scenario", "its frauds", "variant", "recall, unseen", "above XGBoost", "recall, known",
    "above XGBoost",
)  # fmt: skip


def alarm_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row a week: the stated rate of false alarms and what was observed."""
    alarms = result["false_alarms"]
    return [
        [
            week["train_start"],
            f"{alarms['stated']:.2%}",
            f"{week['observed']:.3%}",
            f"{week['observed'] / alarms['stated']:.2f}",
            f"{week['fixed']:.3%}",
        ]
        for week in alarms["weeks"]
    ]


ALARM_COLUMNS = (
    "training days from", "stated", "observed, window moved daily", "observed / stated",
    "observed, window of the training days",
)  # fmt: skip


def markdown_of(result: Mapping[str, Any]) -> str:
    """Both tables, as the pages show them."""
    tables = (COLUMNS, unseen_rows(result)), (ALARM_COLUMNS, alarm_rows(result))
    return "\n".join(_markdown(columns, rows) for columns, rows in tables)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---"] * len(columns)
    return "".join(f"| {' | '.join(row)} |\n" for row in (columns, ruler, *rows))


def _told(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


if __name__ == "__main__":  # python -m training.unseen_report bench/unseen.json > bench/unseen.md
    sys.stdout.write(markdown_of(json.loads(Path(sys.argv[1]).read_text())))
