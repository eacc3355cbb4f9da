"""Transactions as records of the stream: the JSON that ``/predict`` takes, and the key."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription
from sentinel.transactions import Transactions

_SECOND = 1_000_000


class TransactionJson:
    """Writes transactions of one description, some 1 to 2 microseconds each."""

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        # Members get neutral names because a field may be called anything ("class", "tx-id").
        names = {f"f{at}": name for at, name in enumerate(description.inputs)}
        self._row: type[msgspec.Struct] = msgspec.defstruct(
            "Row", list(names), rename=names, gc=False
        )
        self._encode = msgspec.json.Encoder().encode

    def values(self, transactions: Transactions) -> list[bytes]:
        """(n,) the body of each."""
        columns = [self._column(name, transactions) for name in self._description.inputs]
        return list(map(self._encode, map(self._row, *columns)))

    def _column(self, name: str, transactions: Transactions) -> Sequence[Any]:
        description = self._description
        if name == description.id:
            return transactions.ids.to_pylist()
        if name == description.time:
            assert transactions.times is not None
            return _stamps(transactions.times)
        if name in transactions.entities:
            return transactions.entities[name].to_pylist()
        at = list(description.numbers).index(name)
        return self._numbers(name, transactions.numbers[:, at])

    def _numbers(self, name: str, column: NDArray[np.float64]) -> Sequence[Any]:
        """The values as they were before they became numbers; a missing one is null."""
        spec = self._description.numbers[name]
        if spec.type == "number" and not spec.optional:
            return column.tolist()
        missing = np.isnan(column)
        filled = np.where(missing, 0, column)
        values: list[Any]
        match spec.type:
            case "boolean":
                values = (filled != 0).tolist()
            case "category":
                known = spec.values or ()
                values = [known[int(code)] for code in filled.tolist()]
            case "integer":
                values = [int(value) for value in filled.tolist()]
            case _:
                values = filled.tolist()
        if missing.any():
            values = [None if m else v for m, v in zip(missing.tolist(), values, strict=True)]
        return values


def _stamps(times: NDArray[np.int64]) -> list[str]:
    """RFC 3339 in UTC, to the second where all of them are whole."""
    unit = "us" if (times % _SECOND).any() else "s"
    texts = np.datetime_as_string(times.view("M8[us]"), unit=unit).tolist()  # type: ignore[call-overload]
    return list(map("".join, zip(texts, repeat("Z"), strict=False)))
