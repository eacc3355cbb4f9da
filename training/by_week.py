"""The backtest week by week: whether quality lasts, and what changed meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import Policy
from sentinel.decision import APPROVE, BLOCK, decide, regret
from sentinel.fields import moment
from training.drift import most_shifted, stability_index
from training.fit import Features
from training.judge import Judged
from training.quality import Ranking, Reals, average_precision, brier_skill
from training.quality import expected_calibration_error as calibration_error
from training.slices import LEAST_FRAUDS

WEEK = 7 * 86_400_000_000
PARTS = 4
"""That rows without a time are cut into, each as large."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of the backtest that belong together, and what they are called."""

    name: str
    rows: slice


def spans(size: int, times: NDArray[np.int64] | None, first_row: int) -> list[Span]:
    """Whole weeks from the first of (n,) ``times`` on, a rest of under half a week added to the
    last; without times parts of equal size, named by their rows of the table."""
    if times is None:
        edges = np.linspace(0, size, PARTS + 1).astype(int)
        named = [f"rows {first_row + a:,} to {first_row + b - 1:,}" for a, b in _pairs(edges)]
    else:
        begin, end = int(times[0]), int(times[-1]) + 1
        weeks = max(1, round((end - begin) / WEEK))
        edges = np.searchsorted(times, [begin + at * WEEK for at in range(weeks)]).astype(int)
        edges = np.append(edges, size)
        named = [moment(int(times[a])).date().isoformat() for a, b in _pairs(edges) if a < b]
    rows = [slice(int(a), int(b)) for a, b in _pairs(edges) if a < b]
    return [Span(name, part) for name, part in zip(named, rows, strict=True)]


def by_week(
    judged: Judged, spans: Sequence[Span], names: Sequence[str], before: Features, after: Features
) -> list[dict[str, Any]]:
    """What is said of each span. ``before``: (n, f) features the models were trained on; ``after``:
    (m, f) of the judged rows. Figures that too few frauds allow are ``None``."""
    told = []
    first = spans[0].rows
    for span in spans:
        rows = span.rows
        feature, index = most_shifted(names, before, after[rows])
        told.append(
            {
                "from": span.name,
                **_counts(judged, rows),
                **_ranks(judged, rows),
                "regret_per_1000": regrets(judged, rows),
                "score_psi": stability_index(judged.probability[first], judged.probability[rows]),
                "most_shifted": feature,
                "feature_psi": index,
            }
        )
    return told


def regrets(judged: Judged, rows: slice) -> dict[str, float]:
    """Mean cost above perfect decisions for 1,000 rows, of both lanes, each alone, and of simpler
    ways to decide."""
    policy, amounts = judged.policy, judged.amounts[rows]
    probability, novelty = judged.probability[rows], judged.novelty_p[rows]
    nothing = np.zeros(len(amounts))
    ways = {
        "together": judged.decision[rows],
        "xgboost": decide(policy, amounts, probability, None),
        "isolation_forest": decide(policy, amounts, nothing, novelty),
        "block_at_half": np.where(probability >= 0.5, BLOCK, APPROVE).astype(np.int8),
        "approve_all": np.full(len(amounts), APPROVE, np.int8),
    }
    return {name: _cost(policy, amounts, way, judged.labels[rows]) for name, way in ways.items()}


def _counts(judged: Judged, rows: slice) -> dict[str, Any]:
    labels = judged.labels[rows]
    return {
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "fraud_rate": float(labels.mean()),
        "mean_probability": float(judged.probability[rows].mean()),
        "alarms": int((judged.decision[rows] != APPROVE).sum()),
    }


def _ranks(judged: Judged, rows: slice) -> dict[str, float | None]:
    labels = judged.labels[rows]
    if labels.sum() < LEAST_FRAUDS or labels.all():
        return {
            "average_precision": None, "anomaly_average_precision": None,
            "brier_skill": None, "calibration_error": None,
        }  # fmt: skip
    every = np.arange(len(labels))
    tally = Ranking.of(labels, judged.probability[rows]).tally(every)
    novelty = Ranking.of(labels, judged.anomaly[rows]).tally(every)
    return {
        "average_precision": average_precision(tally),
        "anomaly_average_precision": average_precision(novelty),
        "brier_skill": brier_skill(tally),
        "calibration_error": calibration_error(tally),
    }


def _cost(
    policy: Policy, amounts: Reals, decision: NDArray[np.int8], labels: NDArray[np.int8]
) -> float:
    return 1000 * float(regret(policy, amounts, decision, labels).mean())


def _pairs(edges: NDArray[np.int_]) -> list[tuple[int, int]]:
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
