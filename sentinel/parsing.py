"""What a parser returns, and the row-by-row refusal that JSON and Arrow share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import FieldError, InvalidTransactions
from sentinel.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Parsed:
    """Many rows, some of which may have been refused.

    ``transactions`` holds the good rows in input order, ``rows`` (len(transactions),) the input
    position of each, ``errors`` every bad field of the others (rows ascending), and ``count`` how
    many rows came in.
    """

    transactions: Transactions
    rows: NDArray[np.intp]
    errors: tuple[FieldError, ...]
    count: int

    def all_or_raise(self) -> Transactions:
        """The transactions, if every row was good.

        :raises InvalidTransactions: at least one row was not.
        """
        if self.errors:
            raise InvalidTransactions(self.errors)
        return self.transactions

    def refuse(
        self, refused: NDArray[np.bool_], field: str, values: Sequence[Any], expected: str
    ) -> "Parsed":
        """The same without these of its transactions; ``values`` are what they have in ``field``,
        as errors show them."""
        rows = self.rows[refused].tolist()
        found = (
            FieldError(row, field, value, expected) for row, value in zip(rows, values, strict=True)
        )
        errors = sorted([*self.errors, *found], key=lambda error: error.index or 0)
        kept = ~refused
        return Parsed(self.transactions.take(kept), self.rows[kept], tuple(errors), self.count)

    def errors_by_row(self) -> dict[int, InvalidTransactions]:
        """For each bad row all that is wrong with it, as if it had come alone."""
        found: dict[int, list[FieldError]] = {}
        for error in self.errors:
            if error.index is not None:
                found.setdefault(error.index, []).append(msgspec.structs.replace(error, index=0))
        return {row: InvalidTransactions(errors) for row, errors in found.items()}

    def first_errors(self) -> list[FieldError]:
        """One error for each bad row: the first bad field in the order of the description."""
        first: dict[int | None, FieldError] = {}
        for error in self.errors:
            first.setdefault(error.index, error)
        return list(first.values())
