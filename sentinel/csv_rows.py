"""CSV to transactions, where one bad cell costs its row and no more.

``read_table`` refuses a whole file for a bad cell, as training must; here every cell is read as
text first, so that what cannot be converted is the error of its row. What is accepted is the same:
the cells become the Arrow columns that ``ArrowParser`` takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription, FieldSpec
from sentinel.errors import FieldError
from sentinel.fields import printable
from sentinel.parse_arrow import ArrowParser
from sentinel.parsing import Parsed
from sentinel.table import column_names, renamed, with_ids

_NULLS = pa.array(pyarrow.csv.ConvertOptions().null_values)
"""What stands for null where no text is wanted, as in every CSV file pyarrow reads."""
_TIMES = tuple(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", None))
"""Times may have a zone, or be UTC without; their fraction may have nine digits."""

Cells = dict[int, Any]
"""By row, what stood in cells that could not be read."""


class CsvParser:
    """Parses pieces of CSV files of one description, which need not be labelled."""

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._arrow = ArrowParser(description)

    def rows(self, text: bytes, header: tuple[str, ...], path: str, first: int) -> Parsed:
        """The rows of whole lines without their header, the first of which is row ``first``.

        :raises TableError: a column is missing, or is there under two names.
        """
        cells, ragged = _cells(text, header, column_names(self._description.inputs))
        table = renamed(cells, self._description, path, labelled=False)
        bad: dict[str, Cells] = {}
        columns = {}
        for name in table.column_names:
            spec = self._description.inputs[name]
            columns[name], bad[name] = _column(table.column(name).combine_chunks(), spec)
        parsed = self._arrow.table(with_ids(pa.table(columns), self._description, first))
        return _with_bad_cells(parsed, bad, ragged)


def header_of(line: bytes) -> tuple[str, ...]:
    """The names in the first line of a CSV file.

    :raises pa.ArrowException, UnicodeDecodeError: it is no line of names.
    """
    table = pyarrow.csv.read_csv(pa.BufferReader(line.removeprefix(b"\xef\xbb\xbf")))
    return tuple(table.column_names)


def _cells(
    text: bytes, header: tuple[str, ...], wanted: set[str]
) -> tuple[pa.Table, dict[int, FieldError]]:
    """The wanted columns as bytes, a row per line, null in rows that have more or fewer cells than
    the header; and the errors of those."""
    ragged: dict[int, FieldError] = {}

    def note(row: Any) -> str:
        at = row.number - 1
        expected = f"{row.expected_columns} cells, as in the header; there are {row.actual_columns}"
        ragged[at] = FieldError(at, "", printable(row.text), expected)
        return "skip"

    names = [name for name in header if name in wanted]
    if not text.strip():
        return pa.table({name: pa.array([], pa.binary()) for name in names}), ragged
    table = pyarrow.csv.read_csv(
        pa.BufferReader(text),
        # Row numbers are known in one thread alone.
        read_options=pyarrow.csv.ReadOptions(
            column_names=list(header), use_threads=False, block_size=len(text) + 1
        ),
        parse_options=pyarrow.csv.ParseOptions(
            newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), include_columns=names
        ),
    )  # fmt: skip
    if not ragged:
        return table, ragged
    places = np.full(table.num_rows + len(ragged), -1)
    good = np.ones(len(places), np.bool_)
    good[list(ragged)] = False
    places[good] = np.arange(table.num_rows)
    return table.take(pa.array(places, mask=~good)), ragged


def _column(cells: pa.Array, spec: FieldSpec) -> tuple[pa.Array, Cells]:
    """The cells of one field as ``ArrowParser`` takes it; the bad ones null, and what they held."""
    text, bad = _convert(cells, pa.string())
    if spec.type in ("string", "category"):
        return text, bad
    # Unlike an id, what is no text may stand between spaces, and may be missing.
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, value_set=_NULLS), pa.scalar(None, pa.string()), text)
    if spec.type == "timestamp":
        column, wrong = _convert(text, *_TIMES)
    elif spec.type == "boolean":
        column, wrong = _convert(text, pa.bool_())
    else:
        column, wrong = _convert(text, pa.float64())
    return column, wrong | bad


def _convert(column: pa.Array, *kinds: pa.DataType) -> tuple[pa.Array, Cells]:
    """The column as the first type that every cell fits; else each cell as the first that it fits,
    and all of them as the first."""
    for kind in kinds:
        try:
            return column.cast(kind), {}
        except pa.ArrowInvalid:
            continue
    values: list[Any] = []
    bad: Cells = {}
    for row, cell in enumerate(column):
        value = _cast(cell, kinds)
        values.append(value)
        if value is None and cell.is_valid:
            bad[row] = cell.as_py()
    return pa.array(values, kinds[0]), bad


def _cast(cell: pa.Scalar, kinds: Sequence[pa.DataType]) -> Any:
    """What the cell holds as the first of these types that it fits; ``None`` if none."""
    for kind in kinds:
        try:
            scalar = cell.cast(kind)
        except pa.ArrowInvalid:
            continue
        return scalar.as_py() if kind == kinds[0] else scalar.cast(kinds[0], safe=False).as_py()
    return None


def _with_bad_cells(
    parsed: Parsed, bad: Mapping[str, Cells], ragged: Mapping[int, FieldError]
) -> Parsed:
    """What was parsed, where bad cells are errors with what they held, and not just nulls."""
    held: dict[tuple[int | None, str], Any] = {
        (row, name): cell for name, cells in bad.items() for row, cell in cells.items()
    }
    rows = {row for row, _ in held if row is not None} | ragged.keys()
    if not rows:
        return parsed
    found = [error for error in parsed.errors if error.index not in ragged]
    known = {(error.index, error.field) for error in found}
    errors = [
        msgspec.structs.replace(error, value=printable(held[error.index, error.field]))
        if (error.index, error.field) in held
        else error
        for error in found
    ]
    # A null may be welcome, but not what could not be read.
    errors += [
        FieldError(row, name, printable(cell), "a value of the field's type, or nothing")
        for (row, name), cell in held.items()
        if (row, name) not in known and row not in ragged
    ]
    errors += ragged.values()
    kept: NDArray[np.bool_] = ~np.isin(parsed.rows, np.array(sorted(rows)))
    return Parsed(
        parsed.transactions.take(kept),
        parsed.rows[kept],
        tuple(sorted(errors, key=lambda error: error.index or 0)),
        parsed.count,
    )
