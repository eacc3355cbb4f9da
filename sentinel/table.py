"""Tables of labelled transactions, read and checked before any work is done on them.

A Parquet or CSV file goes through the very parser that requests go through; a table that a model
could not honestly be trained on or judged by is refused with one line that names the row.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentinel.dataset import ROW_ORDER, DatasetDescription, FieldSpec
from sentinel.errors import InvalidTransactions, TableError, UsageError
from sentinel.fields import microseconds, moment
from sentinel.parse_arrow import ArrowParser
from sentinel.profile_plan import profile_plan
from sentinel.transactions import Transactions

_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Past:
    """Rows of a file before those that are used: profiles may rest on them."""

    transactions: Transactions
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """n transactions in time order with their labels, (n,) int8, 1 for fraud; both kinds occur.

    ``past``: the rows of the file before them; ``None`` where the description needs none.
    """

    origin: str
    description: DatasetDescription
    transactions: Transactions
    labels: NDArray[np.int8]
    past: Past | None = None
    named: bool = True
    """Whether the ids are the table's own; if not they are row numbers, which no label means."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def frauds(self) -> int:
        return int(self.labels.sum())

    def time_of(self, row: int) -> str | None:
        """When the row happened, in RFC 3339, or ``None`` without a time column."""
        times = self.transactions.times
        return None if times is None else moment(int(times[row])).isoformat()

    def sha256(self) -> str:
        """A digest of every value the models or the decisions see, whatever file it came from."""
        digest = hashlib.sha256()
        if self.past is not None and len(self.past):
            _digest_rows(digest, self.past.transactions, self.past.labels)
        _digest_rows(digest, self.transactions, self.labels)
        return digest.hexdigest()


def _digest_rows(digest: "hashlib._Hash", rows: Transactions, labels: NDArray[np.int8]) -> None:
    for numbers in (rows.times, rows.numbers, labels):
        if numbers is not None:
            digest.update(np.ascontiguousarray(numbers).tobytes())
    for name, column in rows.entities.items():
        digest.update(name.encode() + b"\0")
        digest.update("\0".join(column.to_pylist()).encode())


def read_table(
    path: str,
    description: DatasetDescription,
    since: str | None = None,
    until: str | None = None,
    *,
    both_kinds: bool = True,
) -> LabelledTable:
    """The rows of a Parquet or CSV file from ``since`` (included) to ``until`` (not included).

    Bounds are RFC 3339 times or dates (UTC), or fractions of the rows from 0 to 1 where the
    description says ``time: row_order``. ``both_kinds``: refuse a table without frauds, or of
    frauds alone.

    :raises TableError: anything that would make training or judging on it dishonest or impossible.
    :raises UsageError: a bound that is no time, or no fraction.
    """
    table = renamed(_read(path, description), description, path)
    if not table.num_rows:
        raise TableError(f"{path}: has no rows")
    labels = _labels(table, description, path)
    named = description.id in table.column_names
    table = with_ids(table, description)
    try:
        transactions = ArrowParser(description).table(table).all_or_raise()
    except InvalidTransactions as error:
        raise TableError(f"{path}: {error}") from error
    except pa.ArrowException as error:
        text = " ".join(str(error).split())[:300]
        raise TableError(f"{path}: cannot be read: {text}") from error
    _check_ids(transactions, description, path)
    _check_order(transactions, description, path)
    rows = _range(transactions, description, since, until)
    if rows.start >= rows.stop:
        raise TableError(f"{path}: no rows from {since or 'the start'} until {until or 'the end'}")
    past = None
    if profile_plan(description) is not None:
        before = slice(0, rows.start)
        past = Past(transactions.take(before), labels[before])
    labels, transactions = labels[rows], transactions.take(rows)
    if both_kinds and (not labels.any() or labels.all()):
        kind = "fraud" if labels.any() else "legitimate"
        raise TableError(
            f"{path}: all {len(labels):,} rows are {kind} by {description.label}; expected both"
        )
    return LabelledTable(path, description, transactions, labels, past, named)


def _read(path: str, description: DatasetDescription) -> pa.Table:
    """The columns of the file that the description names, by any of their names."""
    file = Path(path)
    try:
        if not file.exists():
            raise TableError(f"{path}: there is no such file")
        if not file.is_file():
            raise TableError(f"{path}: is no file; expected Parquet or CSV")
        with file.open("rb") as stream:
            start = stream.read(4)
        if not start:
            raise TableError(f"{path}: is empty; expected Parquet or CSV")
        names = column_names(description.fields)
        if start == _PARQUET_MAGIC:
            present = pq.read_schema(file).names
            return pq.read_table(file, columns=[n for n in present if n in names])
        return _read_csv(file, description)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())[:300]
        raise TableError(f"{path}: cannot be read as Parquet or CSV: {text}") from error


def _read_csv(file: Path, description: DatasetDescription) -> pa.Table:
    with file.open("rb") as stream:
        if b"\0" in stream.read(4096):
            raise TableError(f"{file}: is neither Parquet nor CSV")
    kinds = {"number": pa.float64(), "string": pa.string(), "category": pa.string()}
    column_types = {
        column: kinds[spec.type]
        for name, spec in description.fields.items()
        for column in (name, *spec.aliases)
        if spec.type in kinds
    }
    options = pyarrow.csv.ConvertOptions(column_types=column_types)
    table = pyarrow.csv.read_csv(file, convert_options=options)
    table.validate(full=True)
    _ = table.column_names  # fails here, where it is explained, if the header is not UTF-8
    return table


def column_names(fields: Mapping[str, FieldSpec]) -> set[str]:
    """Every name that a table may have one of these fields under."""
    return {n for name, spec in fields.items() for n in (name, *spec.aliases)}


def renamed(
    table: pa.Table, description: DatasetDescription, path: str, *, labelled: bool = True
) -> pa.Table:
    """The columns under the product's names; without the label unless ``labelled``.

    :raises TableError: one is missing (but for ids), or is there under two names.
    """
    columns = {}
    for name, spec in (description.fields if labelled else description.inputs).items():
        found = [c for c in table.column_names if c in (name, *spec.aliases)]
        if len(found) > 1:
            raise TableError(f"{path}: columns {' and '.join(found)} are both the field {name}")
        if found:
            columns[name] = table.column(found[0])
        elif not spec.optional and name != description.id:
            known = " or ".join((name, *spec.aliases))
            raise TableError(f"{path}: there is no column {known} ({spec.meaning})")
    return pa.table(columns)


def with_ids(table: pa.Table, description: DatasetDescription, first: int = 0) -> pa.Table:
    """The table with an id column: its own, or the row numbers, counted from ``first``."""
    if description.id in table.column_names:
        return table
    rows = pa.array(np.arange(first, first + table.num_rows)).cast(pa.string())
    return table.append_column(description.id, rows)


def _check_ids(transactions: Transactions, description: DatasetDescription, path: str) -> None:
    ids = transactions.ids
    if pc.count_distinct(ids, mode="all").as_py() < len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise TableError(
            f"{path}: {description.id} {twice['values']!r} stands in {twice['counts']} rows; "
            "expected each once"
        )


def _labels(table: pa.Table, description: DatasetDescription, path: str) -> NDArray[np.int8]:
    column = table.column(description.label).combine_chunks()
    kind = column.type
    usable = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not usable:
        raise TableError(f"{path}: column {description.label} is {kind}, expected 0 and 1")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    values = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan)
    labels = values.to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        row = int(wrong[0])
        more = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
        shown = column[row].as_py()
        raise TableError(
            f"{path}: row {row}: {description.label} is {shown}, expected 0 or 1{more}"
        )
    return labels.astype(np.int8)


def _check_order(transactions: Transactions, description: DatasetDescription, path: str) -> None:
    times = transactions.times
    if times is None:
        return
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        row = int(back[0]) + 1
        before, after = moment(int(times[row - 1])), moment(int(times[row]))
        raise TableError(
            f"{path}: row {row}: {description.time} goes back from {before.isoformat()} to "
            f"{after.isoformat()}; expected rows in time order"
        )


def _range(
    transactions: Transactions,
    description: DatasetDescription,
    since: str | None,
    until: str | None,
) -> slice:
    size = len(transactions)
    if description.time == ROW_ORDER:
        start, stop = (_fraction(bound, default) for bound, default in ((since, 0.0), (until, 1.0)))
        return slice(round(start * size), round(stop * size))
    times = transactions.times
    assert times is not None
    bounds = [None if bound is None else _bound(bound) for bound in (since, until)]
    start_row = 0 if bounds[0] is None else int(np.searchsorted(times, bounds[0]))
    stop_row = size if bounds[1] is None else int(np.searchsorted(times, bounds[1]))
    return slice(start_row, stop_row)


def _fraction(bound: str | None, default: float) -> float:
    if bound is None:
        return default
    try:
        fraction = float(bound)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise UsageError(f"bound {bound!r}: this dataset has no time, expected a fraction 0 to 1")
    return fraction


def _bound(bound: str) -> int:
    try:
        when = datetime.fromisoformat(bound)
    except ValueError as error:
        raise UsageError(
            f"bound {bound!r}: expected a date or time such as 2018-08-01 or 2018-08-01T10:00:00Z"
        ) from error
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return microseconds(when)
