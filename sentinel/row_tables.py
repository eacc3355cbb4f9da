"""Parsed rows as one Arrow table: how they travel between processes, bad ones included.

Columns: ``row``, the number of the row in the whole input; ``error``, null where the row is good;
and, null where it is not, ``id``, ``time`` (microseconds since 1970) if there is one, ``key:NAME``
of each entity and ``number:NAME`` of each number.
"""

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.dataset import ROW_ORDER, DatasetDescription
from sentinel.parsing import Parsed
from sentinel.transactions import Transactions

ROW, ERROR, TIME = "row", "error", "time"


def to_table(parsed: Parsed, description: DatasetDescription, first: int) -> pa.Table:
    """A row per input row, of which the first is row ``first`` of the whole input."""
    transactions = parsed.transactions
    columns: dict[str, pa.Array] = {"id": transactions.ids}
    if transactions.times is not None:
        columns[TIME] = pa.array(transactions.times)
    columns |= {f"key:{name}": column for name, column in transactions.entities.items()}
    for at, name in enumerate(description.numbers):
        # A missing value is NaN here too; null is what a bad row has.
        columns[f"number:{name}"] = pa.array(np.ascontiguousarray(transactions.numbers[:, at]))
    table = pa.table(columns)
    errors: list[str | None] = [None] * parsed.count
    if parsed.errors:
        table = table.take(places_of(parsed.rows, parsed.count))
        for error in parsed.first_errors():
            at = error.index or 0
            errors[at] = str(msgspec.structs.replace(error, index=first + at))
    rows = pa.array(np.arange(first, first + parsed.count))
    table = table.add_column(0, ROW, rows)
    return table.append_column(ERROR, pa.array(errors, pa.string()))


def places_of(rows: NDArray[np.intp], count: int) -> pa.Array:
    """(count,) for each row of the input its place among the good rows, null for a bad one."""
    places = np.full(count, -1)
    places[rows] = np.arange(len(rows))
    return pa.array(places, mask=places < 0)


def good_rows(table: pa.Table) -> NDArray[np.intp]:
    """Where in the table the rows without an error are."""
    return np.flatnonzero(table.column(ERROR).is_null().to_numpy())


def to_transactions(table: pa.Table, description: DatasetDescription) -> Transactions:
    """The good rows of such a table, in order."""
    rows = good_rows(table)
    if len(rows) < table.num_rows:
        table = table.take(pa.array(rows))

    def column(name: str) -> pa.Array:
        return table.column(name).combine_chunks()

    numbers = np.empty((table.num_rows, len(description.numbers)))
    for at, name in enumerate(description.numbers):
        numbers[:, at] = column(f"number:{name}").to_numpy()
    timed = description.time != ROW_ORDER
    return Transactions(
        ids=column("id"),
        times=column(TIME).to_numpy() if timed else None,
        entities={name: column(f"key:{name}") for name in description.entities},
        numbers=numbers,
    )
