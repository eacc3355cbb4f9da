"""The kinds of feature a dataset description can ask for, as its YAML writes them."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PassFeature(Strict):
    """The field itself; a category as the position of its value in ``values``."""

    kind: Literal["pass"] = "pass"
    of: str


class LogFeature(Strict):
    """Natural logarithm of 1 + the field, which must have ``minimum: 0`` or more."""

    kind: Literal["log"]
    of: str


class ClockFeature(Strict):
    """From the transaction's time in UTC: hour 0..23; weekday 0 (Monday)..6; weekend 1 on
    Saturday and Sunday; night 1 where the hour is 6 or less (the handbook's definition)."""

    kind: Literal["hour", "weekday", "weekend", "night"]


_UNITS = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"([1-9][0-9]{0,3})([mhd])")
LONGEST_DAYS = 400
"""Longest window or delay: profiles remember as much of every entity."""


def microseconds_of(duration: str) -> int:
    """Microseconds of ``30m``, ``12h`` or ``7d``.

    :raises ValueError: written otherwise, or longer than ``LONGEST_DAYS``.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is no duration; expected such as 30m, 12h or 7d")
    length = int(match[1]) * _UNITS[match[2]]
    if length > LONGEST_DAYS * _UNITS["d"]:
        raise ValueError(f"{duration!r} is longer than {LONGEST_DAYS}d")
    return length


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        microseconds_of(value)
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
"""Minutes, hours or days, such as ``30m``, ``12h``, ``7d``."""


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class BehaviourFeature(Strict):
    """What an entity did in the time before the transaction; one column for each window."""

    kind: Literal[
        "count", "sum", "mean", "maximum", "median", "spread",
        "ratio_mean", "ratio_median", "ratio_maximum", "zscore", "tail",
        "since_last", "first_at", "unusual_share", "unusual_days",
        "known_count", "known_frauds", "known_fraud_rate", "since_fraud", "clean_streak",
        "fraud_run", "fraud_run_days", "ordinary_frauds",
    ]  # fmt: skip
    by: str = Field(description="the entity")
    over: Annotated[tuple[Duration, ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, max_length=8, description="the windows"
    )
    at: str | None = Field(
        default=None, description="of first_at: the entity that was never met before"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "first_at") != (self.at is not None):
            raise ValueError("'at' goes with kind: first_at, which needs it")
        if len({microseconds_of(over) for over in self.over}) < len(self.over):
            raise ValueError("'over' names a window twice")
        return self


RISK = frozenset(
    {
        "known_count", "known_frauds", "known_fraud_rate", "since_fraud", "clean_streak",
        "fraud_run", "fraud_run_days", "ordinary_frauds",
    }
)  # fmt: skip
"""Kinds that rest on labels: their windows end ``label_delay`` before the transaction."""

ON_UNUSUAL = frozenset({"unusual_share", "unusual_days", "ordinary_frauds"})
"""Kinds that need to be told when an amount is unusual."""

RANKED = frozenset({"median", "spread", "ratio_median", "zscore", "tail"})
"""Kinds that need amounts sorted; one window of an entity is sorted, so they must share it."""


class Unusual(Strict):
    """When an amount is unusual: above so many times the entity's mean over the window, once it
    has made that many transactions in it."""

    by: str
    over: Duration = "30d"
    above: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    least: int = Field(default=3, ge=1, le=100)


class Behaviour(Strict):
    """What all behaviour features of a description share."""

    label_delay: Duration = Field(
        default="7d", description="how long after a transaction its label is taken to be known"
    )
    unusual: Unusual | None = None


_CLOCK = ("hour", "weekday", "weekend", "night")


def _shorthand(value: Any) -> Any:
    """``- amount`` passes a field through; ``- hour`` alone is a clock feature."""
    if isinstance(value, str):
        return {"kind": value} if value in _CLOCK else {"kind": "pass", "of": value}
    return {"kind": "pass", **value} if isinstance(value, dict) else value


FeatureSpec = Annotated[
    Annotated[
        PassFeature | LogFeature | ClockFeature | BehaviourFeature, Field(discriminator="kind")
    ],
    BeforeValidator(_shorthand),
]
KIND: dict[str, type[Strict]] = {
    kind: model
    for model in (PassFeature, LogFeature, ClockFeature, BehaviourFeature)
    for kind in get_args(model.model_fields["kind"].annotation)
}
"""The model of each kind of feature."""


def feature_names(feature: FeatureSpec) -> tuple[str, ...]:
    """The column names of a feature in the manifest, the model card and explanations."""
    match feature:
        case ClockFeature():
            return (feature.kind,)
        case PassFeature():
            return (feature.of,)
        case LogFeature():
            return (f"{feature.kind}_{feature.of}",)
        case BehaviourFeature(kind=kind, by=by, at=at):
            what = kind if at is None else f"{kind}_{at}"
            return tuple(f"{by}_{what}_{over}" for over in feature.over)
