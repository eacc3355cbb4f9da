"""What the tests of profiles talk about: deeds of customers at terminals, and what to make of them.

``naive`` is the oracle: every feature from its definition alone, in exact fractions, over a list of
all that was noted. Nothing of the product's arithmetic is in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription, parse_description
from sentinel.feature_specs import BehaviourFeature, feature_names, microseconds_of
from sentinel.profile_plan import ProfilePlan, profile_plan
from sentinel.profiles import Events, Profiles
from tests.plain import PLAIN_YAML

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
START = 17_000 * DAY + 22 * HOUR
"""When the stories begin, in the late evening: their days end soon."""

CUSTOMER, TERMINAL = "customer_id", "terminal_id"
BEHAVIOUR = {
    "label_delay": "2h",
    "unusual": {"by": CUSTOMER, "over": "4h", "above": 2, "least": 2},
}


def of(kind: str, by: str, *over: str, **more: str) -> dict[str, Any]:
    """A feature as the YAML has it."""
    return {"kind": kind, "by": by, "over": list(over), **more}


WINDOWS = ("1h", "3h", "30h")
_SUMMED = ("count", "sum", "mean", "maximum", "ratio_mean", "ratio_maximum", "since_last")
_RANKED = ("median", "spread", "ratio_median", "zscore", "tail")
_KNOWN = (
    "known_count", "known_frauds", "known_fraud_rate", "since_fraud", "clean_streak",
    "fraud_run", "fraud_run_days", "ordinary_frauds",
)  # fmt: skip
EVERY_KIND = [
    feature
    for by, at in ((CUSTOMER, TERMINAL), (TERMINAL, CUSTOMER))
    for feature in (
        *(of(kind, by, *WINDOWS) for kind in _SUMMED),
        *(of(kind, by, "3h") for kind in _RANKED),
        *(of(kind, by, *WINDOWS) for kind in ("unusual_share", "unusual_days")),
        *(of(kind, by, *WINDOWS) for kind in _KNOWN),
        of("first_at", by, *WINDOWS, at=at),
    )
]


def described(
    features: Sequence[Any] = EVERY_KIND, behaviour: dict[str, Any] | None = None
) -> DatasetDescription:
    """Card transactions with these features."""
    content = yaml.safe_load(PLAIN_YAML)
    content["features"] = list(features)
    content["behaviour"] = BEHAVIOUR if behaviour is None else behaviour
    return parse_description(yaml.safe_dump(content), "a test")


def planned(*features: Any, **behaviour: Any) -> ProfilePlan:
    """The plan of these features; labels take two hours unless said otherwise."""
    plan = profile_plan(described(features, {"label_delay": "2h", **behaviour}))
    assert plan is not None
    return plan


DESCRIBED = described()
"""With every kind of feature."""

_every = profile_plan(DESCRIBED)
assert _every is not None
EVERYTHING: ProfilePlan = _every
NAMES = [name for feature in DESCRIBED.features for name in feature_names(feature)]
"""Of its features, in order."""


@dataclass(frozen=True)
class Deed:
    """A transaction; ``at`` in microseconds after ``START``. Deeds of one id are the same event."""

    id: int
    at: int = 0
    amount: float = 10.0
    customer: str = "anna"
    terminal: str = "kiosk"
    fraud: int = 0

    @property
    def keys(self) -> dict[str, str]:
        return {CUSTOMER: self.customer, TERMINAL: self.terminal}

    def but(self, **changes: Any) -> "Deed":
        return replace(self, **changes)


def events(deeds: Sequence[Deed]) -> Events:
    """The same as columns."""
    return Events(
        times=np.array([START + each.at for each in deeds], np.int64),
        amounts=np.array([each.amount for each in deeds], np.float64),
        keys={
            name: pa.array([each.keys[name] for each in deeds], pa.string())
            for name in (CUSTOMER, TERMINAL)
        },
        ids=np.array([each.id for each in deeds], np.int64),
        frauds=np.array([each.fraud for each in deeds], np.uint8),
    )


def told(
    deeds: Sequence[Deed], profiles: Profiles | None = None, plan: ProfilePlan = EVERYTHING
) -> NDArray[np.float32]:
    """(n, b) what profiles (new ones if not given) say of deeds that come at once."""
    profiles = Profiles() if profiles is None else profiles  # empty ones are false
    features, _ = profiles.advance(plan, events(deeds))
    return in_order(features, plan)


def one_by_one(
    deeds: Iterable[Deed], profiles: Profiles | None = None, plan: ProfilePlan = EVERYTHING
) -> NDArray[np.float32]:
    """The same, each coming alone."""
    profiles = Profiles() if profiles is None else profiles
    return np.concatenate([told([each], profiles, plan) for each in deeds])


def marks_of(
    deeds: Sequence[Deed], profiles: Profiles, plan: ProfilePlan = EVERYTHING
) -> list[int]:
    """(n,) the marks of deeds that come one by one."""
    return [int(profiles.advance(plan, events([each]))[1][0]) for each in deeds]


def in_order(features: NDArray[np.float32], plan: ProfilePlan) -> NDArray[np.float32]:
    """The columns as the description lists them."""
    return features[:, np.argsort(plan.columns)]


def label(
    profiles: Profiles, deeds: Sequence[Deed], fraud: int = 1, before: int | None = None
) -> None:
    """Marks deeds as (no) frauds, which they were ``before`` (by default the opposite)."""
    came = events(deeds)
    profiles.label(
        {name: column.to_pylist() for name, column in came.keys.items()},
        came.times,
        came.ids,
        np.full(len(deeds), fraud, np.uint8),
        np.full(len(deeds), 1 - fraud if before is None else before, np.uint8),
    )


# --- the oracle ---------------------------------------------------------------------------------

_PARTS = 10_000
"""Of a unit of money, in which profiles count amounts; a billion is the most."""


@cache
def _raw(amount: float) -> Fraction:
    """In parts, exactly."""
    return Fraction(repr(min(amount, 1e9))) * _PARTS


def _parts(amount: float) -> int:
    return round(min(amount, 1e9) * _PARTS)


@dataclass
class _Noted:
    time: int
    id: int
    amount: int
    """In parts."""
    other: str
    fraud: int
    odd: bool


class Oracle:
    """Everything that happened, in lists."""

    def __init__(self, description: DatasetDescription = DESCRIBED) -> None:
        self._unusual = description.behaviour.unusual
        self._delay = microseconds_of(description.behaviour.label_delay)
        self._wanted = [
            (feature, microseconds_of(over))
            for feature in description.features
            if isinstance(feature, BehaviourFeature)
            for over in feature.over
        ]
        self._noted: dict[tuple[str, str], list[_Noted]] = {}

    def __call__(self, deed: Deed) -> list[float]:
        """The features of a deed, in the order of the description; then it is noted."""
        seen = {by: self._seen(by, deed) for by in deed.keys}
        odd = self._is_odd(deed, seen)
        features = [self._value(feature, over, seen, deed) for feature, over in self._wanted]
        for by, other in ((CUSTOMER, deed.terminal), (TERMINAL, deed.customer)):
            held = self._noted.setdefault((by, deed.keys[by]), [])
            if all((each.time, each.id) != (deed.at, deed.id) for each in held):
                amount = _parts(deed.amount)
                held.append(_Noted(deed.at, deed.id, amount, other, deed.fraud, odd))
        return [float(np.float32(float(value))) for value in features]

    def label(self, deed: Deed, fraud: int) -> None:
        for by, key in deed.keys.items():
            for each in self._noted.get((by, key), ()):
                if (each.time, each.id) == (deed.at, deed.id):
                    each.fraud = fraud

    def _seen(self, by: str, deed: Deed) -> list[_Noted]:
        """What it sees, in the order it happened: of equal times, what came first."""
        held = self._noted.get((by, deed.keys[by]), [])
        same = [(each.time, each.id) == (deed.at, deed.id) for each in held]
        came = same.index(True) if any(same) else len(held)
        seen = [
            each
            for place, each in enumerate(held)
            if each.time < deed.at or (each.time == deed.at and place < came)
        ]
        return sorted(seen, key=lambda each: each.time)

    def _is_odd(self, deed: Deed, seen: dict[str, list[_Noted]]) -> bool:
        if self._unusual is None:
            return False
        since = deed.at - microseconds_of(self._unusual.over)
        past = [each.amount for each in seen[self._unusual.by] if each.time > since]
        if len(past) < self._unusual.least:
            return False
        mean = Fraction(sum(past), len(past))
        return _raw(deed.amount) > Fraction(self._unusual.above) * mean

    def _value(
        self, feature: BehaviourFeature, over: int, seen: dict[str, list[_Noted]], deed: Deed
    ) -> Any:
        kind, mine = feature.kind, seen[feature.by]
        if kind in _KNOWN:
            end = deed.at - self._delay
            return _known(kind, [each for each in mine if end - over < each.time <= end], end)
        past = [each for each in mine if each.time > deed.at - over]
        if kind in _RANKED:
            return _ranked(kind, [each.amount for each in past], deed)
        if kind == "first_at":
            return all(each.other != deed.keys[feature.at or ""] for each in past)
        return _usual(kind, past, deed)


def _usual(kind: str, past: list[_Noted], deed: Deed) -> Any:
    amounts, raw = [each.amount for each in past], _raw(deed.amount)
    total, own, nothing = sum(amounts), _parts(deed.amount), float("nan")
    odd = [each.time + START for each in past if each.odd]
    return {
        "count": lambda: len(past) + 1,
        "sum": lambda: Fraction(total + own, _PARTS),
        "mean": lambda: Fraction(total + own, _PARTS * (len(past) + 1)),
        "maximum": lambda: Fraction(max(amounts), _PARTS) if past else nothing,
        "ratio_mean": lambda: raw * len(past) / total if total else nothing,
        "ratio_maximum": lambda: raw / max(amounts) if total else nothing,
        "since_last": lambda: Fraction(deed.at - past[-1].time, HOUR) if past else nothing,
        "unusual_share": lambda: Fraction(len(odd), len(past)) if past else 0,
        "unusual_days": lambda: len({time // DAY for time in odd}),
    }[kind]()


def _ranked(kind: str, amounts: list[int], deed: Deed) -> Any:
    raw, own = _raw(deed.amount), _parts(deed.amount)
    if kind == "tail":
        return Fraction(sum(each >= own for each in amounts) + 1, len(amounts) + 1)
    if not amounts:
        return float("nan")
    middle = _median(amounts)
    spread = Fraction("1.4826") * _median([abs(each - middle) for each in amounts])
    if kind in ("median", "spread"):
        return (middle if kind == "median" else spread) / _PARTS
    if not middle:
        return float("nan")
    return raw / middle if kind == "ratio_median" else (raw - middle) / max(spread, middle / 100)


def _median(values: Sequence[int | Fraction]) -> Fraction:
    ordered = sorted(values)
    return Fraction(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _known(kind: str, known: list[_Noted], end: int) -> Any:
    frauds, nothing = [place for place, each in enumerate(known) if each.fraud], float("nan")
    last = first = frauds[-1] if frauds else -1
    while first > 0 and known[first - 1].fraud:
        first -= 1
    return {
        "known_count": lambda: len(known),
        "known_frauds": lambda: len(frauds),
        "known_fraud_rate": lambda: Fraction(len(frauds), len(known)) if known else 0,
        "ordinary_frauds": lambda: sum(not known[place].odd for place in frauds),
        "since_fraud": lambda: Fraction(end - known[last].time, DAY) if frauds else nothing,
        "clean_streak": lambda: len(known) - 1 - last if frauds else nothing,
        "fraud_run": lambda: last - first + 1 if frauds else 0,
        "fraud_run_days": lambda: Fraction(end - known[first].time, DAY) if frauds else nothing,
    }[kind]()


def naive(deeds: Iterable[Deed]) -> NDArray[np.float32]:
    """(n, b) the features of deeds that come in this order."""
    oracle = Oracle()
    return np.array([oracle(each) for each in deeds], np.float32).reshape(-1, len(NAMES))


def same(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Every feature, exactly.

    A quotient that lies in the very middle between two float32 may be either, which is up to the
    last bit of the float64 before.
    """
    assert got.shape == expected.shape
    for column, name in enumerate(NAMES):
        ours, theirs = got[..., column], expected[..., column]
        if any(kind in name for kind in ("mean", "spread", "ratio", "zscore")):
            near = np.abs(ours - theirs) <= np.spacing(np.abs(theirs))
            ours = np.where(near, theirs, ours)
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


# --- made-up stories ----------------------------------------------------------------------------

AMOUNTS = st.sampled_from(
    [0.0, 0.00004, 0.004, 1.0, 3.33, 10.0, 10.01, 57.16, 99.99, 1e6, 2e9, 1e300]
) | st.floats(0, 100)
_MOMENTS = st.integers(0, 80).map(lambda half_hours: half_hours * 30 * MINUTE)
"""A whole number of half hours: many of the same, and many at the very edge of a window."""


def stories(most: int = 14, ids: int | None = 8) -> st.SearchStrategy[list[Deed]]:
    """Deeds in any order. Of ``ids`` some stand for several deeds; ``None``: each has its own."""
    deeds = st.builds(
        Deed,
        id=st.integers(1, ids or 1),
        at=_MOMENTS,
        amount=AMOUNTS,
        customer=st.sampled_from(["anna", "ben"]),
        terminal=st.sampled_from(["kiosk", "shop"]),
        fraud=st.integers(0, 1),
    )
    told = st.lists(deeds, min_size=1, max_size=most)
    if ids is not None:
        return told
    return told.map(lambda story: [each.but(id=at + 1) for at, each in enumerate(story)])


def by_time(deeds: Iterable[Deed]) -> list[Deed]:
    """In the order they happened; of equal times as they stand."""
    return sorted(deeds, key=lambda each: each.at)
