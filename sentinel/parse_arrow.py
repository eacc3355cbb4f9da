"""Arrow to transactions: an IPC stream from a request, or a table that training has read.

Columns are named as the fields and may stand in any order; others are ignored. Ids and entity keys
may be strings (plain, large, view or dictionary-encoded) or integers; times any Arrow timestamp
(without a zone it means UTC) or RFC 3339 strings; numbers of any width. A whole column of the wrong
type is refused at once; a null, a NaN or a value out of range refuses its row alone.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from sentinel.dataset import ROW_ORDER, DatasetDescription
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.fields import (
    EARLIEST,
    LATEST,
    MAX_STRING,
    FieldRule,
    NumberRules,
    field_rules,
    microseconds,
    printable,
    read_timestamp,
)
from sentinel.parsing import Parsed
from sentinel.transactions import Transactions

_UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TEXT_PER_ROW = 4 * MAX_STRING
"""Bytes of text a row of a column may have on average: what good rows have at most."""
_TIMESTAMPS = list[Annotated[datetime, msgspec.Meta(tz=True)]]

_Mask = NDArray[np.bool_]


class ArrowParser:
    """Parses the Arrow data of one description. Immutable; safe to share between threads."""

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._rules = field_rules(description)
        self._number_rules = NumberRules(description)

    def stream(self, body: bytes | pa.Buffer) -> Parsed:
        """The rows of an Arrow IPC stream; bad rows are reported, good ones kept.

        :raises MalformedInput: not an Arrow IPC stream, or one whose buffers lie.
        :raises InvalidTransactions: a column is missing, given twice, or of the wrong type.
        """
        try:
            with pa.ipc.open_stream(body) as reader:
                table = reader.read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            text = " ".join(str(error).split())[:200]
            raise MalformedInput(f"not an Arrow IPC stream: {text}") from error
        try:
            return self.table(table)
        except pa.ArrowException as error:
            text = " ".join(str(error).split())[:200]
            raise MalformedInput(f"an Arrow stream that cannot be read: {text}") from error

    def table(self, table: pa.Table) -> Parsed:
        """The rows of a table in memory.

        :raises InvalidTransactions: as ``stream``.
        """
        return _TableReader(self._description, self._rules, self._number_rules, table).read()


class _TableReader:
    """Reads one table: a column at a time, noting for each field which rows are bad and why."""

    def __init__(
        self,
        description: DatasetDescription,
        rules: dict[str, FieldRule],
        number_rules: NumberRules,
        table: pa.Table,
    ) -> None:
        self._description = description
        self._rules = rules
        self._number_rules = number_rules
        self._rows = table.num_rows
        self._columns = self._required_columns(table)
        self._bad: dict[str, _Mask] = {}
        self._places = {name: at for at, name in enumerate(description.numbers)}

    def read(self) -> Parsed:
        description = self._description
        ids = self._strings(description.id)
        times = None if description.time == ROW_ORDER else self._times(description.time)
        entities = {name: self._strings(name) for name in description.entities}
        numbers = self._numbers()
        transactions = Transactions(ids, times, entities, numbers)
        bad = np.zeros(self._rows, dtype=bool)
        in_range = self._number_rules.good(numbers)
        if in_range is not None:
            bad |= ~in_range
        for mask in self._bad.values():
            bad |= mask
        rows = np.arange(self._rows)
        if not bad.any():
            return Parsed(transactions, rows, (), self._rows)
        errors = tuple(e for row in np.flatnonzero(bad) for e in self._errors(int(row), numbers))
        return Parsed(transactions.take(~bad), rows[~bad], errors, self._rows)

    def _required_columns(self, table: pa.Table) -> dict[str, pa.Array]:
        columns: dict[str, pa.Array] = {}
        errors: list[FieldError] = []
        places: dict[str, list[int]] = {}
        for place, name in enumerate(table.column_names):
            places.setdefault(name, []).append(place)
        for name, rule in self._rules.items():
            found = [table.column(place) for place in places.get(name, ())]
            if not found and rule.spec.optional:
                columns[name] = pa.nulls(table.num_rows)
            elif (error := _column_error(rule, found, table.num_rows)) is not None:
                errors.append(error)
            else:
                columns[name] = _plain(found[0])
        if errors:
            raise InvalidTransactions(errors)
        return columns

    def _refuse(self, name: str, bad: _Mask) -> None:
        if bad.any():
            self._bad[name] = self._bad.get(name, False) | bad

    def _strings(self, name: str) -> pa.StringArray:
        column = self._columns[name].cast(pa.string())
        lengths = _numpy(pc.fill_null(pc.utf8_length(column), 0))
        self._refuse(name, (lengths < 1) | (lengths > MAX_STRING))
        return column

    def _times(self, name: str) -> NDArray[np.int64]:
        column = self._columns[name]
        if not types.is_timestamp(column.type):
            return self._times_from_strings(name, column)
        null = _nulls(column)
        values = _numpy(pc.fill_null(column.cast(pa.int64()), 0))
        per_second = _UNITS_PER_SECOND[column.type.unit]
        if per_second > 1_000_000:
            # Half a microsecond counts as one, as in RFC 3339 strings: the same row must not
            # become another for having come as Arrow.
            parts = per_second // 1_000_000
            result = values // parts + (values % parts >= parts // 2)
            known = np.ones(self._rows, dtype=bool)
        else:
            factor = 1_000_000 // per_second
            known = (values >= EARLIEST // factor) & (values <= LATEST // factor)
            result = np.where(known, values, 0) * factor
        self._refuse(name, null | ~known | (result < EARLIEST) | (result > LATEST))
        return result

    def _times_from_strings(self, name: str, column: pa.Array) -> NDArray[np.int64]:
        texts = column.to_pylist()
        moments: list[datetime | None]
        try:
            moments = list(msgspec.convert(texts, _TIMESTAMPS))
        except msgspec.ValidationError:
            moments = [read_timestamp(text) for text in texts]
            self._refuse(name, np.array([moment is None for moment in moments], dtype=bool))
        stamps = (0 if moment is None else microseconds(moment) for moment in moments)
        result = np.fromiter(stamps, np.int64, self._rows)
        self._refuse(name, (result < EARLIEST) | (result > LATEST))
        return result

    def _numbers(self) -> NDArray[np.float64]:
        numbers = np.empty((self._rows, len(self._description.numbers)))
        for at, (name, spec) in enumerate(self._description.numbers.items()):
            column = self._columns[name]
            null = _nulls(column)
            if spec.type == "category":
                known = pa.array(spec.values or (), pa.string())
                codes = pc.index_in(column.cast(pa.string()), value_set=known)
                self._refuse(name, _nulls(codes) & ~null)
                column = codes
            numbers[:, at] = _numpy(pc.fill_null(_as_float(column), np.nan))
            # A NaN that was sent is an error even where null is welcome.
            self._refuse(name, np.isnan(numbers[:, at]) & ~null)
            if not spec.optional:
                self._refuse(name, null)
        return numbers

    def _errors(self, row: int, numbers: NDArray[np.float64]) -> Iterator[FieldError]:
        places = self._places
        for name, rule in self._rules.items():
            if name in self._bad and self._bad[name][row]:
                yield rule.error(row, _shown(self._columns[name], row))
            elif name in places:
                value = float(numbers[row, places[name]])
                missing = rule.spec.optional and np.isnan(value)
                # Booleans and categories have no range; their numbers are ours.
                ranged = rule.spec.type in ("number", "integer") and not missing
                if ranged and not rule.accepts(value):
                    yield rule.error(row, value)


def _column_error(
    rule: FieldRule, found: Sequence[pa.ChunkedArray], rows: int
) -> FieldError | None:
    """Why the columns of a field's name cannot be the field, if they cannot."""
    if not found:
        return rule.missing(None)
    if len(found) > 1:
        expected = f"one column of that name; there are {len(found)}"
        return FieldError(None, rule.name, None, expected)
    kind = found[0].type
    if not _fits(rule, kind):
        expected = f"a column whose values are each {rule.expected}"
        return FieldError(None, rule.name, printable(str(kind)), expected)
    text = _text_bytes(found[0])
    if text > rows * _TEXT_PER_ROW:
        return FieldError(None, rule.name, f"{text:,} bytes of text", f"each {rule.expected}")
    return None


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One contiguous array with dictionaries decoded and views made ordinary.

    Its text must be bounded before (``_text_bytes``): a dictionary or view may repeat one long
    value for every row.
    """
    kind = _value_type(column.type)
    if _is_text(kind):
        kind = pa.string()
    if types.is_dictionary(column.type):
        # Arrow cannot cast a dictionary of string views, but its dictionary.
        chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in column.chunks]
        column = pa.chunked_array(chunks, kind)
    array = column.combine_chunks()
    return array.cast(kind) if array.type != kind else array


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of text a dictionary or view column has once every row holds its own."""
    repeats = types.is_dictionary(column.type) or types.is_string_view(column.type)
    if not repeats or not _is_text(_value_type(column.type)):
        return 0
    total = 0
    for chunk in column.chunks:
        if types.is_dictionary(chunk.type):
            lengths = _text_lengths(chunk.dictionary).take(chunk.indices)
        else:
            lengths = _text_lengths(chunk)
        total += pc.sum(lengths).as_py() or 0
    return total


def _text_lengths(array: pa.Array) -> pa.Array:
    """Bytes of each value, 0 for null."""
    if not types.is_string_view(array.type):
        return pc.fill_null(pc.binary_length(array).cast(pa.int64()), 0)
    # Arrow has no length of a view; by its format the first 4 of a view's 16 bytes hold it.
    views = np.frombuffer(array.buffers()[1], np.dtype("<i4")).reshape(-1, 4)
    lengths = views[array.offset : array.offset + len(array), 0].astype(np.int64)
    return pa.array(np.where(_nulls(array), 0, lengths))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _fits(rule: FieldRule, kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type may hold the field."""
    kind = _value_type(kind)
    if types.is_null(kind):
        return True  # every row is null; each is reported for itself
    text = _is_text(kind)
    match rule.spec.type:
        case "string":
            return text or types.is_integer(kind)
        case "timestamp":
            return text or types.is_timestamp(kind)
        case "boolean":
            return types.is_boolean(kind)
        case "category":
            return text
        case _:
            return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _as_float(column: pa.Array) -> pa.Array:
    if types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if types.is_decimal(column.type):
        column = column.cast(pa.string())  # Arrow itself would not find the nearest float64
    # An integer beyond 2**53 is rounded, as the same digits in JSON are.
    return column.cast(pa.float64(), safe=False)


def _nulls(column: pa.Array) -> _Mask:
    return _numpy(column.is_null())


def _numpy(column: pa.Array) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)


def _shown(column: pa.Array, row: int) -> Any:
    try:
        return column[row].as_py()
    except (ValueError, OverflowError):
        return str(column[row].cast(pa.int64()).as_py())  # a time outside Python's years
