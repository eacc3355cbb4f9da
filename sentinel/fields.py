"""What a value must be to be accepted for a field, said once for every format.

Two views of the same rule: ``FieldRule.accepts`` judges one value as JSON or Arrow hands it over
and is used to explain; ``NumberRules.good_rows`` judges whole columns at once and is what the hot
path pays for. A property test holds them against each other.
"""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription, FieldSpec
from sentinel.errors import FieldError

MAX_STRING = 256
"""Longest id or entity key, in characters: keys are stored for months, so they are bounded."""

_PRINTED = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""First and last accepted time: an offset can name moments outside the years 1 to 9999 in UTC,
which nothing could print again."""

_LARGEST = float(np.finfo(np.float64).max)
_TIMESTAMP = Annotated[datetime, msgspec.Meta(tz=True)]


class HugeNumber(str):
    """The text of a JSON number that no float64 can hold, such as ``1e400``."""


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 in UTC of a moment that states its offset."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(stamp: int) -> datetime:
    """The moment, in UTC, so many microseconds after the start of 1970."""
    return _EPOCH + stamp * _MICROSECOND


def read_timestamp(value: object) -> datetime | None:
    """The moment an RFC 3339 string with an offset names, else ``None``."""
    try:
        moment: datetime = msgspec.convert(value, _TIMESTAMP)
    except msgspec.ValidationError:
        return None
    return moment if EARLIEST <= microseconds(moment) <= LATEST else None


def printable(value: Any) -> Any:
    """``value`` as an error may show it: JSON-safe, and cut to about 100 characters."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        names = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return value if math.isfinite(value) else names.get(value, "NaN")
    if isinstance(value, int):
        return value if abs(value) < 2**53 else _cut(str(value))
    if isinstance(value, bytes):
        return _cut(repr(value))
    if isinstance(value, list | dict):
        return _cut(json.dumps(value, ensure_ascii=False, default=str))
    return _cut(value.isoformat() if isinstance(value, datetime) else str(value))


def _cut(text: str) -> str:
    text = text if len(text) <= _PRINTED else text[:_PRINTED] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class FieldRule:
    """The rule for one input field."""

    name: str
    spec: FieldSpec
    low: float
    high: float

    @classmethod
    def of(cls, name: str, spec: FieldSpec) -> "FieldRule":
        # Infinite numbers are refused by the same comparison as those out of range.
        low = -_LARGEST if spec.minimum is None else max(spec.minimum, -_LARGEST)
        high = _LARGEST if spec.maximum is None else min(spec.maximum, _LARGEST)
        return cls(name, spec, low, high)

    @property
    def expected(self) -> str:
        """What is accepted, for people."""
        text = self._expected()
        return f"{text}, or null" if self.spec.optional else text

    def _expected(self) -> str:
        match self.spec.type:
            case "string":
                text = f"a string of 1 to {MAX_STRING} characters"
            case "timestamp":
                text = "an RFC 3339 date and time with its offset, such as 2018-08-01T10:00:00Z"
            case "boolean":
                text = "true or false"
            case "category":
                text = "one of " + ", ".join(self.spec.values or ())
            case "integer":
                text = "a whole number" + self._range()
            case _:
                text = "a finite number" + self._range()
        return text

    def _range(self) -> str:
        low, high = self.spec.minimum, self.spec.maximum
        if low is not None and high is not None:
            return f" from {low:g} to {high:g}"
        if low is not None:
            return f" of {low:g} or more"
        return "" if high is None else f" of {high:g} or less"

    def accepts(self, value: Any) -> bool:
        """Whether this one value may stand in the field (NaN never may, not even if optional)."""
        if value is None:
            return self.spec.optional
        match self.spec.type:
            case "string":
                fits = _is_text(value) and 1 <= len(value) <= MAX_STRING
            case "timestamp":
                fits = read_timestamp(value) is not None
            case "boolean":
                fits = isinstance(value, bool)
            case "category":
                fits = _is_text(value) and value in (self.spec.values or ())
            case _:
                fits = self._accepts_number(value)
        return fits

    def _accepts_number(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        try:
            number = float(value)
        except OverflowError:  # an integer beyond float64
            return False
        in_range = self.low <= number <= self.high  # which infinity and NaN never are
        return in_range and (self.spec.type == "number" or number.is_integer())

    def error(self, index: int | None, value: Any) -> FieldError:
        return FieldError(index, self.name, printable(value), self.expected)

    def missing(self, index: int | None) -> FieldError:
        return FieldError(index, self.name, None, f"{self.expected}; the field is missing")


def _is_text(value: object) -> bool:
    """A string that UTF-8 can hold (JSON escapes can name half a surrogate pair)."""
    if not isinstance(value, str) or isinstance(value, HugeNumber):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def field_rules(description: DatasetDescription) -> dict[str, FieldRule]:
    """The rule of each input field, in the description's order."""
    return {name: FieldRule.of(name, spec) for name, spec in description.inputs.items()}


class NumberRules:
    """The rules of all number columns of a description, applied to a whole table at once."""

    def __init__(self, description: DatasetDescription) -> None:
        rules = [FieldRule.of(name, spec) for name, spec in description.numbers.items()]
        self._low = np.array([rule.low for rule in rules])
        self._high = np.array([rule.high for rule in rules])
        self._optional = np.array([rule.spec.optional for rule in rules], dtype=bool)
        self._whole = [i for i, rule in enumerate(rules) if rule.spec.type == "integer"]

    def good(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """(n,) whether every number of a row is accepted; ``None`` where all rows are.

        ``numbers`` is (n, k), NaN standing for a missing value (which only an optional field may
        have: a NaN that was sent must have been refused before).
        """
        # NaN fails both comparisons, so missing and infinite values need no test of their own.
        fits = np.greater_equal(numbers, self._low)
        fits &= numbers <= self._high
        for column in self._whole:
            fits[:, column] &= numbers[:, column] == np.floor(numbers[:, column])
        if fits.all():
            return None
        if self._optional.any():
            fits |= self._optional & np.isnan(numbers)
        rows: NDArray[np.bool_] = fits.all(axis=1)
        return None if rows.all() else rows


def category_codes(spec: FieldSpec) -> dict[str, float]:
    """The number that stands for each value of a category."""
    return {value: float(code) for code, value in enumerate(spec.values or ())}
