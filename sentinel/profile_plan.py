"""What the profiles of a description must remember, and which features they must yield."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription
from sentinel.feature_specs import RANKED, RISK, BehaviourFeature, feature_names, microseconds_of

(
    COUNT, SUM, MEAN, MAXIMUM, RATIO_MEAN, RATIO_MAXIMUM, SINCE_LAST, FIRST_AT, UNUSUAL_SHARE,
    UNUSUAL_DAYS, MEDIAN, SPREAD, RATIO_MEDIAN, ZSCORE, TAIL, KNOWN_COUNT, KNOWN_FRAUDS,
    KNOWN_FRAUD_RATE, SINCE_FRAUD, CLEAN_STREAK, FRAUD_RUN, FRAUD_RUN_DAYS, ORDINARY_FRAUDS,
) = range(23)  # fmt: skip
"""What the kernel is told to write into a column. Those from MEDIAN on need amounts sorted, those
from KNOWN_COUNT on rest on labels."""

_CODES = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "maximum": MAXIMUM,
    "median": MEDIAN,
    "spread": SPREAD,
    "ratio_mean": RATIO_MEAN,
    "ratio_median": RATIO_MEDIAN,
    "ratio_maximum": RATIO_MAXIMUM,
    "zscore": ZSCORE,
    "tail": TAIL,
    "since_last": SINCE_LAST,
    "first_at": FIRST_AT,
    "unusual_share": UNUSUAL_SHARE,
    "unusual_days": UNUSUAL_DAYS,
    "known_count": KNOWN_COUNT,
    "known_frauds": KNOWN_FRAUDS,
    "known_fraud_rate": KNOWN_FRAUD_RATE,
    "since_fraud": SINCE_FRAUD,
    "clean_streak": CLEAN_STREAK,
    "fraud_run": FRAUD_RUN,
    "fraud_run_days": FRAUD_RUN_DAYS,
    "ordinary_frauds": ORDINARY_FRAUDS,
}
LATENESS = 7 * 86_400_000_000
"""Microseconds a transaction may be older than its entity's newest and still be judged exactly:
records are kept so much longer than the longest window."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EntityPlan:
    """What is kept and made for one entity key. Times in microseconds."""

    entity: str
    other: str | None
    """The entity whose keys ``first_at`` looks for."""
    windows: Integers
    risk_windows: Integers
    ops: Integers
    op_windows: Integers
    columns: NDArray[np.intp]
    """Where its features stand among all of the description's."""
    order_window: int
    unusual_window: int
    horizon: int
    """No record older than this, seen from a transaction, changes a feature of it."""

    @property
    def keep(self) -> int:
        """How much older than an entity's newest record another may be before it is dropped."""
        return self.horizon + LATENESS


@dataclass(frozen=True, slots=True, eq=False)
class ProfilePlan:
    """The profiles of one description. ``entities``: the one that says what is unusual first."""

    entities: tuple[EntityPlan, ...]
    delay: int
    unusual_above: float
    unusual_least: int
    columns: NDArray[np.intp]
    """Where the features that come from profiles stand among all."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The entity keys that events must have: those that have profiles, and those that
        ``first_at`` looks for."""
        looked_for = (plan.other for plan in self.entities if plan.other is not None)
        return tuple(dict.fromkeys((*(plan.entity for plan in self.entities), *looked_for)))


def profile_plan(description: DatasetDescription) -> ProfilePlan | None:
    """The plan of a description; ``None`` where none of its features needs a profile."""
    found: dict[str, list[tuple[int, str, int, BehaviourFeature]]] = {}
    column = 0
    for feature in description.features:
        names = feature_names(feature)
        if isinstance(feature, BehaviourFeature):
            for at, over in enumerate(feature.over):
                entry = (column + at, feature.kind, microseconds_of(over), feature)
                found.setdefault(feature.by, []).append(entry)
        column += len(names)
    if not found:
        return None
    behaviour = description.behaviour
    unusual = behaviour.unusual
    delay = microseconds_of(behaviour.label_delay)
    first = (unusual.by,) if unusual is not None else ()
    entities = dict.fromkeys((*first, *(e for e in description.entities if e in found)))
    plans = tuple(_entity_plan(name, found.get(name, ()), description, delay) for name in entities)
    return ProfilePlan(
        entities=plans,
        delay=delay,
        unusual_above=unusual.above if unusual else 0.0,
        unusual_least=unusual.least if unusual else 0,
        columns=np.concatenate([plan.columns for plan in plans]),
    )


def _entity_plan(
    entity: str,
    entries: Sequence[tuple[int, str, int, BehaviourFeature]],
    description: DatasetDescription,
    delay: int,
) -> EntityPlan:
    unusual = description.behaviour.unusual
    mine = unusual is not None and unusual.by == entity
    unusual_over = microseconds_of(unusual.over) if unusual is not None and mine else 0
    windows = sorted({over for _, kind, over, _ in entries if kind not in RISK} | {unusual_over})
    windows = [over for over in windows if over]
    risk = sorted({over for _, kind, over, _ in entries if kind in RISK})
    ranked = [over for _, kind, over, _ in entries if kind in RANKED]
    ends = [*windows, *(delay + over for over in risk)]
    return EntityPlan(
        entity=entity,
        other=next((f.at for _, kind, _, f in entries if kind == "first_at"), None),
        windows=np.array(windows, np.int64),
        risk_windows=np.array(risk, np.int64),
        ops=np.array([_CODES[kind] for _, kind, _, _ in entries], np.int64),
        op_windows=np.array(
            [(risk if kind in RISK else windows).index(over) for _, kind, over, _ in entries],
            np.int64,
        ),
        columns=np.array([column for column, _, _, _ in entries], np.intp),
        order_window=windows.index(ranked[0]) if ranked else -1,
        unusual_window=windows.index(unusual_over) if mine else -1,
        horizon=max(ends),
    )
