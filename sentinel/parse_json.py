"""JSON to transactions, once, at the edge.

The fast path decodes straight into msgspec structs compiled from the description and checks the
numbers as columns. It must also notice what msgspec does not: a key given twice, a body nested too
deeply. Both need more quotes than the fields that came, so one count over the bytes tells that
neither is there; only a body with extra fields or escapes is looked at again. A row that fails is
read a second time by Python's own parser, slowly, to say exactly which field and why.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain
from math import isinf, nan
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import UNSET, UnsetType

from sentinel.dataset import ROW_ORDER, DatasetDescription, FieldSpec
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.fields import (
    EARLIEST,
    LATEST,
    MAX_STRING,
    HugeNumber,
    NumberRules,
    category_codes,
    field_rules,
    microseconds,
    printable,
    read_timestamp,
)
from sentinel.parsing import Parsed
from sentinel.transactions import Transactions

MAX_DEPTH = 32
"""Deepest nesting of arrays and objects; a transaction has 1, a batch 2."""

_STRING_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""Possessive: a pattern that could backtrack takes 100 bytes of memory for each byte it reads."""

_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its members in order, so that a key given twice can be seen."""


class JsonParser:
    """Parses the JSON of one description. Immutable; safe to share between threads."""

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._rules = field_rules(description)
        self._number_rules = NumberRules(description)
        # Members get neutral names because a field may be called anything ("class", "tx-id").
        self._member = {name: f"f{i}" for i, name in enumerate(self._rules)}
        self._struct: type[msgspec.Struct] = msgspec.defstruct(
            "Transaction",
            sorted(
                (self._definition(name, spec) for name, spec in description.inputs.items()),
                key=len,  # members with a default come last
            ),
            rename={member: name for name, member in self._member.items()},
            gc=False,
        )
        self._one = msgspec.json.Decoder(self._struct)
        self._many = msgspec.json.Decoder(list[self._struct])  # type: ignore[name-defined]
        quotes = {name: _value_quotes(spec) for name, spec in description.inputs.items()}
        self._quotes = 2 * len(quotes) + sum(quotes.values())
        self._optional = [
            (attrgetter(self._member[name]), quotes[name])
            for name, spec in description.inputs.items()
            if spec.optional
        ]
        self._numbers = self._number_reader()

    def one(self, body: bytes) -> Transactions:
        """The one transaction in this body (n = 1).

        :raises MalformedInput: not JSON, not UTF-8, or nested too deeply.
        :raises InvalidTransactions: JSON, but not a transaction of this description.
        """
        return self.parsed_one(body).all_or_raise()

    def parsed_one(self, body: bytes) -> Parsed:
        """As ``one``, but an error of a range is reported and not raised."""
        return self._columns([self.read_any(body)], [0])

    def read_any(self, body: bytes) -> msgspec.Struct:
        """As ``read``, of any body; errors as ``one`` but for those of a range."""
        _check_utf8(body)
        return self._row(0, body)

    def read(self, body: bytes) -> msgspec.Struct | None:
        """One transaction, read but not yet checked for ranges, if its body is a plain one.

        ``None`` where it takes longer to say what this body is; ``one`` does. Costs microseconds.
        """
        try:
            row: msgspec.Struct = self._one.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        return row if self._is_plain(body, (row,)) and body.isascii() else None

    def together(self, rows: Sequence[msgspec.Struct]) -> Parsed:
        """Transactions that ``read`` gave, as columns; errors are those of ranges.

        Making columns takes a fixed time, so many at once cost little more than one.
        """
        return self._columns(rows, range(len(rows)))

    def many(self, body: bytes) -> Parsed:
        """The list of transactions in this body; bad rows are reported, good ones kept.

        :raises MalformedInput: as ``one``.
        :raises InvalidTransactions: not a list.
        """
        _check_utf8(body)
        try:
            rows: list[msgspec.Struct] = self._many.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return self._many_by_row(body)
        if not self._is_plain(body, rows):
            return self._many_by_row(body)
        return self._columns(rows, range(len(rows)))

    def _is_plain(self, body: bytes, rows: Sequence[msgspec.Struct]) -> bool:
        """Whether ``body`` holds each field of these rows once and nothing else."""
        quotes = self._quotes * len(rows)
        for read, value_quotes in self._optional:
            values = list(map(read, rows))
            absent = values.count(UNSET)
            quotes -= 2 * absent + value_quotes * (absent + values.count(None))
        return body.count(b'"') == quotes and b"\\" not in body

    def _many_by_row(self, body: bytes) -> Parsed:
        rows: list[msgspec.Struct] = []
        positions: list[int] = []
        errors: list[FieldError] = []
        parts = _split(body)
        for index, part in enumerate(parts):
            try:
                rows.append(self._row(index, part))
                positions.append(index)
            except InvalidTransactions as error:
                errors.extend(error.errors)
        return self._columns(rows, positions, errors, len(parts))

    def _row(self, index: int, raw: "bytes | _Pairs | Any") -> msgspec.Struct:
        """One transaction from its bytes, or from what Python's parser already made of them."""
        if not isinstance(raw, bytes):
            return self._checked(index, raw)
        try:
            row: msgspec.Struct = self._one.decode(raw)
        except msgspec.DecodeError:
            return self._checked(index, _slow_load(raw))
        except RecursionError:
            raise MalformedInput(_TOO_DEEP) from None
        if self._is_plain(raw, (row,)):
            return row
        _check_depth(raw)
        return row if _keys_are_unique(raw) else self._checked(index, _slow_load(raw))

    def _checked(self, index: int, value: Any) -> msgspec.Struct:
        """The row in this parsed value, every field judged by itself.

        :raises InvalidTransactions: with every bad field.
        """
        if not isinstance(value, _Pairs):
            expected = "an object with the fields " + ", ".join(self._rules)
            raise InvalidTransactions([FieldError(index, "", printable(_plain(value)), expected)])
        members, twice = _last_and_repeated(value)
        errors: list[FieldError] = []
        for name, rule in self._rules.items():
            if name in twice:
                shown = printable(members[name])
                errors.append(FieldError(index, name, shown, "the field once; it is given twice"))
            elif name not in members:
                if not rule.spec.optional:
                    errors.append(rule.missing(index))
            elif not rule.accepts(members[name]):
                errors.append(rule.error(index, members[name]))
        if errors:
            raise InvalidTransactions(errors)
        return self._struct(
            **{
                member: read_timestamp(members[name])
                if self._rules[name].spec.type == "timestamp"
                else members[name]
                for name, member in self._member.items()
                if name in members
            }
        )

    def _columns(
        self,
        rows: Sequence[msgspec.Struct],
        positions: Iterable[int],
        errors: Sequence[FieldError] = (),
        count: int | None = None,
    ) -> Parsed:
        """Structs as columns, less the rows with a number or a time out of range."""
        description, member = self._description, self._member
        numbers = self._numbers(rows)
        times, in_years = None, True
        if description.time != ROW_ORDER:
            moments = map(attrgetter(member[description.time]), rows)
            stamps = list(map(microseconds, moments))
            times = np.array(stamps, np.int64)
            in_years = not stamps or EARLIEST <= min(stamps) <= max(stamps) <= LATEST
        transactions = Transactions(
            ids=self._strings(description.id, rows),
            times=times,
            entities={name: self._strings(name, rows) for name in description.entities},
            numbers=numbers,
        )
        places = np.fromiter(positions, np.intp, len(rows))
        total = len(rows) if count is None else count
        good = self._number_rules.good(numbers)
        if times is not None and not in_years:
            known = (times >= EARLIEST) & (times <= LATEST)
            good = known if good is None else good & known
        if good is None:
            return Parsed(transactions, places, tuple(errors), total)
        late = [
            e
            for i in np.flatnonzero(~good).tolist()
            for e in self._range_errors(int(places[i]), rows[i])
        ]
        in_order = sorted([*errors, *late], key=lambda error: error.index or 0)
        return Parsed(transactions.take(good), places[good], tuple(in_order), total)

    def _range_errors(self, index: int, row: msgspec.Struct) -> Iterable[FieldError]:
        for name, rule in self._rules.items():
            value = getattr(row, self._member[name])
            if value is not UNSET and not rule.accepts(value):
                yield rule.error(index, value)

    def _strings(self, name: str, rows: Sequence[msgspec.Struct]) -> pa.StringArray:
        return pa.array(map(attrgetter(self._member[name]), rows), pa.string(), size=len(rows))

    def _number_reader(self) -> Callable[[Sequence[msgspec.Struct]], np.ndarray[Any, Any]]:
        """A function from structs to their (n, k) float64 numbers."""
        specs = self._description.numbers
        width = len(specs)
        members = [self._member[name] for name in specs]
        # attrgetter of one name returns the value itself, of several a tuple: always a tuple here.
        read = attrgetter(*members, members[0])
        codes = [category_codes(s) if s.type == "category" else None for s in specs.values()]
        plain = all(c is None for c in codes) and not any(s.optional for s in specs.values())

        def fast(rows: Sequence[msgspec.Struct]) -> np.ndarray[Any, Any]:
            flat = np.fromiter(
                chain.from_iterable(map(read, rows)), np.float64, len(rows) * (width + 1)
            )
            return flat.reshape(len(rows), width + 1)[:, :width]

        def translated(rows: Sequence[msgspec.Struct]) -> np.ndarray[Any, Any]:
            numbers = np.empty((len(rows), width))
            for row, values in enumerate(map(read, rows)):
                for column, (value, code) in enumerate(zip(values, codes, strict=False)):
                    missing = value is None or value is UNSET
                    numbers[row, column] = nan if missing else code[value] if code else value
            return numbers

        return fast if plain else translated

    def _definition(self, name: str, spec: FieldSpec) -> tuple[Any, ...]:
        kinds: dict[str, Any] = {
            "string": Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STRING)],
            "timestamp": Annotated[datetime, msgspec.Meta(tz=True)],
            "number": float,
            "integer": float,  # 5.0 is a whole number too; the column check refuses 5.5
            "boolean": bool,
            "category": str,
        }
        kind = kinds[spec.type]
        if spec.type == "category":
            kind = Literal[spec.values]
        member = self._member[name]
        return (member, kind | None | UnsetType, UNSET) if spec.optional else (member, kind)


def _value_quotes(spec: FieldSpec) -> int:
    """How many quotes a value of this field is written with, unless it is null."""
    return 2 if spec.type in ("string", "timestamp", "category") else 0


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"not UTF-8 at byte {error.start}") from error


def _check_depth(body: bytes) -> None:
    """:raises MalformedInput: nested deeper than ``MAX_DEPTH``. ``body`` must be valid JSON."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    signs = np.frombuffer(_STRING_TOKEN.sub(b"", body), np.uint8)
    opened = np.isin(signs, list(b"[{")).astype(np.int32)
    closed = np.isin(signs, list(b"]}")).astype(np.int32)
    if np.cumsum(opened - closed).max() > MAX_DEPTH:
        raise MalformedInput(_TOO_DEEP)


def _keys_are_unique(body: bytes) -> bool:
    """Whether no object anywhere repeats a key; may say no where an escape hides the answer.

    A parsed tree keeps one of two equal keys, so it is written back with fewer quotes.
    """
    if b"\\" in body:
        return False
    try:
        tree = msgspec.json.decode(body)
    except msgspec.ValidationError:  # an unknown field with a number that no float64 can hold
        return False
    return msgspec.json.encode(tree).count(b'"') == body.count(b'"')


def _split(body: bytes) -> Sequence[Any]:
    """The elements of the list in this body, as bytes where msgspec can find them.

    :raises MalformedInput: not JSON, or too deep.
    :raises InvalidTransactions: JSON, but no list.
    """
    try:
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
        _check_depth(body)
        return [bytes(raw) for raw in raws]
    except RecursionError:
        raise MalformedInput(_TOO_DEEP) from None
    except msgspec.DecodeError:
        value = _slow_load(body)
    if isinstance(value, _Pairs) or not isinstance(value, list):
        expected = "a list of transactions"
        raise InvalidTransactions([FieldError(0, "", printable(_plain(value)), expected)])
    return value


def _slow_load(body: bytes) -> Any:
    """What Python's parser makes of this body, objects as ``_Pairs``.

    It is laxer than msgspec in two ways that are wanted here: it knows NaN and Infinity, and reads
    an escaped half of a surrogate pair, so that these are an error of a field (422) and not of the
    whole body (400).

    :raises MalformedInput: not JSON, or too deep.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_Pairs,
            parse_constant=float,
            parse_float=_number,
            parse_int=_number,
        )
    except RecursionError:
        raise MalformedInput(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise MalformedInput(f"not JSON: {error}") from error
    _check_depth(body)
    return value


def _number(text: str) -> float | int | HugeNumber:
    # Python refuses to read an integer of more than 4,300 digits; float64 ends at 309.
    if isinf(float(text)):
        return HugeNumber(text)
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _last_and_repeated(pairs: _Pairs) -> tuple[dict[str, Any], set[str]]:
    members: dict[str, Any] = {}
    twice: set[str] = set()
    for name, value in pairs:
        if name in members:
            twice.add(name)
        members[name] = _plain(value)
    return members, twice


def _plain(value: Any) -> Any:
    """``value`` as it is shown in an error: an object as a dict again."""
    if isinstance(value, _Pairs):
        return {name: _plain(member) for name, member in value}
    return [_plain(v) for v in value] if isinstance(value, list) else value
