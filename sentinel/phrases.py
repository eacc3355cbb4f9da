"""What the value of a feature means, in an analyst's words.

Made of the description alone: the names, meanings and units of its fields and the kinds of its
features. Features that say the same thing in different windows are of one *theme*.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import expm1, isnan

from sentinel.dataset import DatasetDescription, FieldSpec
from sentinel.feature_specs import BehaviourFeature, ClockFeature, LogFeature, PassFeature

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = {"m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """How one feature is told: what it is about, and the words for a value (NaN is missing)."""

    theme: str
    say: Callable[[float], str]


def phrases_of(description: DatasetDescription) -> tuple[Phrase, ...]:
    """One for each feature of the description, in order."""
    return tuple(phrase for spec in description.features for phrase in _phrases(spec, description))


def _phrases(
    spec: PassFeature | LogFeature | ClockFeature | BehaviourFeature,
    description: DatasetDescription,
) -> list[Phrase]:
    match spec:
        case ClockFeature(kind=kind):
            return [Phrase("time", _CLOCK[kind])]
        case PassFeature(of=of):
            return [Phrase(of, partial(_field, of, description.fields[of]))]
        case LogFeature(of=of):
            return [Phrase(of, partial(_logarithm, of, description.fields[of]))]
        case BehaviourFeature(kind=kind, by=by):
            theme, say = BEHAVIOUR[kind]
            terms = partial(_Terms, noun(by), noun(spec.at or ""), description)
            return [Phrase(f"{theme} of {by}", partial(say, terms(over))) for over in spec.over]


def noun(entity: str) -> str:
    """``customer`` for ``customer_id``, ``card holder`` for ``card_holder``."""
    return entity.removesuffix("_id").removesuffix("_ID").replace("_", " ")


def _field(name: str, spec: FieldSpec, value: float) -> str:
    if isnan(value):
        return f"{name} is missing ({spec.meaning})"
    if spec.values is not None:
        return f"{name} is {spec.values[int(value)]} ({spec.meaning})"
    if spec.type == "boolean":
        return f"{name} is {'true' if value else 'false'} ({spec.meaning})"
    if spec.unit is not None:
        return f"{name} {_quantity(value)} {spec.unit}"
    return f"{name} is {_quantity(value)} ({spec.meaning})"


def _logarithm(name: str, spec: FieldSpec, value: float) -> str:
    return _field(name, spec, expm1(min(value, 700.0)))


def _quantity(value: float) -> str:
    return f"{value:,.2f}" if 0.01 <= abs(value) < 1e9 else f"{value:.3g}"


def _times(value: float) -> str:
    return f"{value:.1f}" if 0.05 <= abs(value) < 1e6 else f"{value:.2g}"


def _some(count: float, what: str) -> str:
    return f"{count:,.0f} {what}{'' if count == 1 else 's'}"


_CLOCK: Mapping[str, Callable[[float], str]] = {
    "hour": lambda v: f"made between {v:.0f}:00 and {v:.0f}:59 UTC",
    "weekday": lambda v: f"made on a {_DAYS[int(v)]}",
    "weekend": lambda v: "made on a weekend" if v else "made on a working day",
    "night": lambda v: "made at night (0:00 to 6:59 UTC)" if v else "made by day (from 7:00 UTC)",
}


@dataclass(frozen=True, slots=True)
class _Terms:
    """The words for one window of a behaviour feature."""

    who: str
    other: str
    description: DatasetDescription
    over: str

    @property
    def window(self) -> str:
        """Such as ``30 days``."""
        count, unit = int(self.over[:-1]), _UNITS[self.over[-1]]
        return f"{count} {unit}{'' if count == 1 else 's'}"

    @property
    def wide(self) -> str:
        """Such as ``30-day``."""
        return f"{self.over[:-1]}-{_UNITS[self.over[-1]]}"

    @property
    def amount(self) -> str:
        """The amount's name."""
        return self.description.amount

    def money(self, value: float) -> str:
        """An amount with its unit."""
        return f"{_quantity(value)} {self.description.fields[self.amount].unit or ''}".strip()


def _count(t: _Terms, v: float) -> str:
    return f"{_some(v, 'transaction')} of this {t.who} in {t.window}"


def _statistic(what: str, t: _Terms, v: float) -> str:
    if isnan(v):
        return _no_past(t)
    return f"this {t.who}'s {t.wide} {what} {t.amount} is {t.money(v)}"


def _ratio(what: str, t: _Terms, v: float) -> str:
    if isnan(v):
        return _no_past(t)
    return f"{t.amount} {_times(v)} times this {t.who}'s {t.wide} {what}"


def _zscore(t: _Terms, v: float) -> str:
    if isnan(v):
        return _no_past(t)
    side = "above" if v >= 0 else "below"
    return f"{t.amount} {_times(abs(v))} spreads {side} this {t.who}'s {t.wide} median"


def _tail(t: _Terms, v: float) -> str:
    return f"{v:.0%} of this {t.who}'s {t.amount}s of {t.window} are as high"


def _no_past(t: _Terms) -> str:
    return f"no {t.amount} of this {t.who} in the {t.window} before to compare with"


def _since_last(t: _Terms, v: float) -> str:
    if isnan(v):
        return f"first transaction of this {t.who} in {t.window}"
    age = f"{_times(60 * v)} minutes" if v < 1 else f"{_times(v)} hours"
    return f"{age} after this {t.who}'s last transaction"


def _first_at(t: _Terms, v: float) -> str:
    met = "first transaction" if v else "not the first transaction"
    return f"{met} of this {t.who} with this {t.other} in {t.window}"


def _unusual_share(t: _Terms, v: float) -> str:
    return f"{v:.0%} of this {t.who}'s transactions in {t.window} had an unusual {t.amount}"


def _unusual_days(t: _Terms, v: float) -> str:
    return f"{t.who} had unusual {t.amount}s on {_some(v, 'day')} of {t.window}"


def _known_count(t: _Terms, v: float) -> str:
    return f"outcome of {_some(v, 'transaction')} known of this {t.who} in {t.window}"


def _known_frauds(t: _Terms, v: float) -> str:
    return f"{t.who} had {_some(v, 'known fraud')} in {t.window}"


def _known_fraud_rate(t: _Terms, v: float) -> str:
    return f"{v:.0%} of this {t.who}'s transactions known in {t.window} were frauds"


def _since_fraud(t: _Terms, v: float) -> str:
    if isnan(v):
        return _known_frauds(t, 0)
    return f"{t.who}'s last known fraud was {_times(v)} days before the label delay"


def _clean_streak(t: _Terms, v: float) -> str:
    if isnan(v):
        return _known_frauds(t, 0)
    return f"{_some(v, 'clean transaction')} of this {t.who} known since its last known fraud"


def _fraud_run(t: _Terms, v: float) -> str:
    frauds = _some(v, "transaction")
    return f"last {frauds} known of this {t.who} in {t.window} frauds, none good between"


def _fraud_run_days(t: _Terms, v: float) -> str:
    if isnan(v):
        return _known_frauds(t, 0)
    return f"{t.who}'s run of known frauds began {_times(v)} days before the label delay"


def _ordinary_frauds(t: _Terms, v: float) -> str:
    return f"{t.who} had {_some(v, 'known fraud')} of an ordinary {t.amount} in {t.window}"


BEHAVIOUR: Mapping[str, tuple[str, Callable[[_Terms, float], str]]] = {
    "count": ("pace", _count),
    "since_last": ("pace", _since_last),
    "sum": ("amounts", partial(_statistic, "total")),
    "mean": ("amounts", partial(_statistic, "mean")),
    "maximum": ("amounts", partial(_statistic, "highest")),
    "median": ("amounts", partial(_statistic, "median")),
    "spread": ("amounts", partial(_statistic, "spread of")),
    "ratio_mean": ("amounts", partial(_ratio, "mean")),
    "ratio_median": ("amounts", partial(_ratio, "median")),
    "ratio_maximum": ("amounts", partial(_ratio, "maximum")),
    "zscore": ("amounts", _zscore),
    "tail": ("amounts", _tail),
    "first_at": ("meetings", _first_at),
    "unusual_share": ("unusual amounts", _unusual_share),
    "unusual_days": ("unusual amounts", _unusual_days),
    "known_count": ("known frauds", _known_count),
    "known_frauds": ("known frauds", _known_frauds),
    "known_fraud_rate": ("known frauds", _known_fraud_rate),
    "since_fraud": ("known frauds", _since_fraud),
    "clean_streak": ("known frauds", _clean_streak),
    "fraud_run": ("known frauds", _fraud_run),
    "fraud_run_days": ("known frauds", _fraud_run_days),
    "ordinary_frauds": ("known frauds", _ordinary_frauds),
}
"""The theme and the words of each kind of behaviour feature."""
