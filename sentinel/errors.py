"""The errors of SentinelStream: one small tree.

Policy: an error says what is wrong, with which value, and what was expected. The core raises
these; only the edges translate them, the command line into one line and an exit code, the API
into problem+json with a status. Causes are chained, never swallowed.
"""

from collections.abc import Sequence
from typing import Any

import msgspec


class SentinelError(Exception):
    """Anything this product refuses on purpose; its text is for the person who caused it."""


class UsageError(SentinelError):
    """An option or argument that cannot be used; names it and what was expected."""


class DescriptionError(SentinelError):
    """A dataset description that cannot be used; names the file, the key and what was expected."""


class TableError(SentinelError):
    """A table of transactions that cannot be used; names the file and, where known, the row."""


class BundleError(SentinelError):
    """A bundle that cannot be trusted or read; names the URI and the file at fault."""


class MalformedInput(SentinelError):
    """Bytes that are not the format they claim to be (HTTP 400)."""


class FieldError(msgspec.Struct, frozen=True):
    """One field of one row that cannot be accepted.

    ``index`` counts input rows from 0, ``None`` where the whole column is at fault; ``field`` is
    "" where the row is no object at all; ``value`` is what came, cut to a printable, JSON-safe form
    (``None`` for null and for a missing field); ``expected`` says what would have been accepted.
    """

    index: int | None
    field: str
    value: Any
    expected: str

    def __str__(self) -> str:
        row = "every row" if self.index is None else f"row {self.index}"
        return f"{row}: {self.field or 'it'} is {self.value!r}, expected {self.expected}"


class InvalidTransactions(SentinelError):
    """Well-formed input whose fields cannot be accepted (HTTP 422).

    ``errors`` holds every bad field of every bad row, rows ascending, fields in the order of the
    description; there is always at least one.
    """

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{errors[0]}{more}")


class UnknownBundle(SentinelError):
    """Who was asked to score holds another bundle than the one asked for; another may hold it."""

    def __init__(self, who: str, wanted: str, held: str) -> None:
        # All arguments go to the base: they are what survives the trip between processes.
        super().__init__(who, wanted, held)
        self.who, self.wanted, self.held = who, wanted, held

    def __str__(self) -> str:
        return f"{self.who} holds bundle {self.held}, not {self.wanted}"


class IdentityConflict(SentinelError):
    """A transaction whose id was used with other fields within the idempotency window (HTTP 409).

    ``field`` is the name of the id, ``value`` the id, ``expected`` what would have been accepted.
    """

    expected = "an id not used with other fields; the first transaction of this id was different"

    def __init__(self, field: str, value: str) -> None:
        super().__init__(field, value)
        self.field, self.value = field, value

    def __str__(self) -> str:
        return f"{self.field} is {self.value!r}, expected {self.expected}"


class Overloaded(SentinelError):
    """More work came than is let wait; the same request may be sent again (HTTP 503).

    ``bound`` names the bound that was reached.
    """

    def __init__(self, bound: str, detail: str) -> None:
        super().__init__(bound, detail)
        self.bound, self.detail = bound, detail

    def __str__(self) -> str:
        return f"no room for more work: {self.detail}"
