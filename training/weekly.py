"""Week by week: whether the probabilities are true, and what the decisions made of them cost.

Decisions are held against perfect ones (regret), and against two simpler ways to decide: blocking
what plain XGBoost gives a half or more, and blocking from one threshold for all amounts on, its or
ours. Those thresholds are the best there are for the very rows that are judged, which nobody could
know before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import Policy
from sentinel.decision import APPROVE, BLOCK, DECISIONS, decide, regret
from training.quality import Labels, Ranking, Reals, brier_skill, expected_calibration_error

RESAMPLES = 1_000
AT_HALF = "xgboost-published at 0.5"
PLAIN_BEST = "xgboost-published at its best threshold"
BEST_THRESHOLD = "sentinel at its best threshold"
THRESHOLDS = 400
"""Thresholds that the best one is looked for among, as quantiles of the probabilities."""


@dataclass(frozen=True, slots=True)
class WeekJudged:
    """The judged rows of a week: (n,) labels, amounts, our calibrated probabilities, and those of
    the plain model that is decided by at 0.5."""

    name: str
    labels: Labels
    amounts: Reals
    probability: Reals
    plain: Reals


def calibration_by_week(weeks: Sequence[WeekJudged]) -> list[dict[str, Any]]:
    """How true the probabilities were: a row a week."""
    return [{"train_start": week.name, **_calibration(week)} for week in weeks]


def cost_by_week(weeks: Sequence[WeekJudged], policy: Policy, seed: int = 0) -> dict[str, Any]:
    """Regret for 1,000 rows, by week and over all, and how much less it is than of simpler ways.

    ``saved`` holds paired bootstrap intervals over all rows: ``per_1000``, the difference, and
    ``share``, the difference as a share of the other's regret. The same rows are drawn for both.
    """
    labels, amounts, probability, plain = (
        np.concatenate([getattr(week, name) for week in weeks])
        for name in ("labels", "amounts", "probability", "plain")
    )
    ours = decide(policy, amounts, probability, None)
    threshold = best_threshold(policy, amounts, probability, labels)
    ways = {
        "sentinel": ours,
        AT_HALF: _block(plain >= 0.5),
        PLAIN_BEST: _block(plain >= best_threshold(policy, amounts, plain, labels)),
        BEST_THRESHOLD: _block(probability >= threshold),
    }
    costs = {name: regret(policy, amounts, way, labels) for name, way in ways.items()}
    ends = np.cumsum([len(week.labels) for week in weeks])[:-1]
    return {
        "review_cost": policy.review_cost,
        "review_catch_rate": policy.review_catch_rate,
        "best_threshold": threshold,
        "weeks": [
            {
                "train_start": week.name,
                "regret_per_1000": {
                    name: _per_1000(np.split(c, ends)[at]) for name, c in costs.items()
                },
            }
            for at, week in enumerate(weeks)
        ],
        "regret_per_1000": {name: _per_1000(cost) for name, cost in costs.items()},
        "approving_all": _per_1000(regret(policy, amounts, np.full_like(ours, APPROVE), labels)),
        "decisions": {name: int((ours == code).sum()) for code, name in enumerate(DECISIONS)},
        "saved": {
            name: saved(costs["sentinel"], costs[name], seed)
            for name in (AT_HALF, PLAIN_BEST, BEST_THRESHOLD)
        },
    }


def saved(ours: Reals, other: Reals, seed: int = 0) -> dict[str, dict[str, float]]:
    """How much less the first costs than the second, (n,) each of the same rows, with the ends of
    95% paired bootstrap intervals."""
    rng = np.random.default_rng(seed)
    # Rows that cost nothing either way only thin out the draws: their number is all that matters.
    some = np.flatnonzero((ours > 0) | (other > 0))
    share = len(some) / len(ours)
    draws = np.empty((RESAMPLES, 2))
    for at in range(RESAMPLES):
        drawn = some[rng.integers(len(some), size=rng.binomial(len(ours), share))]
        draws[at] = ours[drawn].sum(), other[drawn].sum()
    per_1000 = (draws[:, 1] - draws[:, 0]) * 1000 / len(ours)
    shares = 1 - draws[:, 0] / draws[:, 1]
    return {
        "per_1000": _interval(_per_1000(other) - _per_1000(ours), per_1000),
        "share": _interval(1 - float(ours.sum() / other.sum()), shares),
    }


def best_threshold(policy: Policy, amounts: Reals, probability: Reals, labels: Labels) -> float:
    """The probability to block from on that costs least on these rows, among quantiles."""
    tried = np.unique(np.quantile(probability, 1 - np.geomspace(1e-5, 0.2, THRESHOLDS)))
    cost: Callable[[float], float] = lambda at: float(  # noqa: E731
        regret(policy, amounts, _block(probability >= at), labels).sum()
    )
    return float(min(tried, key=cost))


def _calibration(week: WeekJudged) -> dict[str, Any]:
    tally = Ranking.of(week.labels, week.probability).tally(np.arange(len(week.labels)))
    return {
        "brier_skill": brier_skill(tally),
        "expected_calibration_error": expected_calibration_error(tally),
        "mean_probability": float(week.probability.mean()),
        "fraud_rate": float(week.labels.mean()),
    }


def _block(where: NDArray[np.bool_]) -> NDArray[np.int8]:
    return np.where(where, BLOCK, APPROVE).astype(np.int8)


def _per_1000(cost: Reals) -> float:
    return 1000 * float(cost.mean())


def _interval(value: float, draws: Reals) -> dict[str, float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": value, "low": float(low), "high": float(high)}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Way, its regret for 1,000 rows, and the share that is saved beside it, for people."""
    rows = []
    for name, value in cost["regret_per_1000"].items():
        share = cost["saved"].get(name, {}).get("share")
        told = f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})" if share else ""
        rows.append((name, f"{value:,.0f}", told))
    return rows
