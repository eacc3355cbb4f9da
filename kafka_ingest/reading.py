"""Records to transactions: the same parser as for requests, a batch at a time.

A record is one transaction as JSON, or, where its header says so, many as an Arrow stream. Whatever
is neither is a dead letter, with the reason; no record can spoil its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from kafka_ingest.outgoing import DeadLetter, place_of
from sentinel.answers import ARROW
from sentinel.arrow_size import stream_size
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.stream_exchange import Contract, pack
from sentinel.transactions import Transactions, concatenate

CONTENT_TYPE = "content-type"
"""The header that tells an Arrow stream (any case); without it a record is JSON."""

MAX_BYTES = 2**20
"""Bytes of a transaction: as for a request."""

MAX_ARROW_BYTES, MAX_ARROW_ROWS = 32 * 2**20, 100_000
"""Of a record of many transactions: as for a request, compressed or not."""


Headers = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record, or (``many``) rows of it, got no decision."""

    reason: str
    field: str = ""
    errors: tuple[FieldError, ...] = ()
    many: bool = False

    @classmethod
    def of(cls, errors: Sequence[FieldError], many: bool = False) -> "Refusal":
        """What these errors, at least one, say; of many rows the first is told."""
        first = errors[0]
        reason = f"{first.field or 'it'} is {first.value!r}, expected {first.expected}"
        row = f"row {first.index}: " if many else ""
        return cls(row + reason, first.field, tuple(errors), many)


@dataclass(frozen=True, slots=True)
class Read:
    """A batch as it was read.

    ``sources`` (n,) says which of ``messages`` each of the n ``transactions`` came in, ``within``
    (n,) its row there; ``refused`` names each message that is bad, or has bad rows; ``packed`` is
    what the application gets.
    """

    contract: Contract
    messages: Sequence[Message]
    transactions: Transactions
    sources: NDArray[np.intp]
    within: NDArray[np.intp]
    refused: Mapping[int, Refusal]
    packed: bytes

    def take(self, rows: slice) -> "Read":
        """Of the transactions these alone; the messages stay."""
        some = self.transactions.take(rows)
        return replace(
            self,
            transactions=some,
            sources=self.sources[rows],
            within=self.within[rows],
            packed=pack(some),
        )


class RecordReader:
    """Reads by one contract. Safe to share between threads."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._json = JsonParser(contract.description)
        self._arrow = ArrowParser(contract.description)

    def read(self, messages: Sequence[Message]) -> Read:
        """The transactions in these messages, in order."""
        batch = _Batch()
        read = self._json.read
        for at, message in enumerate(messages):
            value = message.value()
            if (headers := message.headers()) and is_arrow(headers):
                self._end_run(batch)
                self._stream(batch, at, value)
            elif value and len(value) <= MAX_BYTES and (row := read(value)) is not None:
                batch.rows.append(row)
                batch.places.append(at)
            else:
                self._slowly(batch, at, value)
        self._end_run(batch)
        transactions = concatenate(batch.parts)
        return Read(
            self.contract,
            messages,
            transactions,
            np.concatenate(batch.sources),
            np.concatenate(batch.within),
            batch.refused,
            pack(transactions),
        )

    def _end_run(self, batch: "_Batch") -> None:
        """Makes columns of the JSON since the last Arrow stream."""
        parsed = self._json.together(batch.rows)
        places = np.array(batch.places, np.intp)
        batch.add(parsed.transactions, places[parsed.rows], np.zeros(len(parsed.rows), np.intp))
        for row, error in parsed.errors_by_row().items():
            batch.refused[batch.places[row]] = Refusal.of(error.errors)
        batch.rows, batch.places = [], []

    def _slowly(self, batch: "_Batch", at: int, value: bytes | None) -> None:
        """A record that is not plain, or no transaction."""
        try:
            if not value:
                raise MalformedInput("it is empty, expected an object")
            if len(value) > MAX_BYTES:
                raise MalformedInput(f"it has {len(value):,} bytes, expected at most {MAX_BYTES:,}")
            batch.rows.append(self._json.read_any(value))
            batch.places.append(at)
        except MalformedInput as error:
            batch.refused[at] = Refusal(str(error))
        except InvalidTransactions as error:
            batch.refused[at] = Refusal.of(error.errors)

    def _stream(self, batch: "_Batch", at: int, value: bytes | None) -> None:
        try:
            parsed = self._arrow.stream(_sized(value or b""))
        except MalformedInput as error:
            batch.refused[at] = Refusal(str(error))
            return
        except InvalidTransactions as error:
            batch.refused[at] = Refusal.of(error.errors)
            return
        if parsed.errors:
            batch.refused[at] = Refusal.of(parsed.errors, many=True)
        batch.add(parsed.transactions, np.full(len(parsed.rows), at, np.intp), parsed.rows)


class _Batch:
    """What was read so far: parts of columns, and the run of JSON that is to become the next."""

    def __init__(self) -> None:
        self.rows: list[msgspec.Struct] = []
        self.places: list[int] = []
        self.parts: list[Transactions] = []
        self.sources: list[NDArray[np.intp]] = []
        self.within: list[NDArray[np.intp]] = []
        self.refused: dict[int, Refusal] = {}

    def add(self, part: Transactions, sources: NDArray[np.intp], within: NDArray[np.intp]) -> None:
        if len(part) or not self.parts:
            self.parts.append(part)
            self.sources.append(sources)
            self.within.append(within)


def is_arrow(headers: Headers | None) -> bool:
    """Whether the headers of a record say that it is an Arrow stream."""
    for name, value in headers.items() if isinstance(headers, dict) else headers or ():
        if name.lower() == CONTENT_TYPE and value:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            return text.partition(";")[0].strip().lower() == ARROW
    return False


def dead_letter(message: Message, refusal: Refusal) -> DeadLetter:
    """The record with why it got no decision."""
    rows = msgspec.json.encode(refusal.errors) if refusal.many else b""
    return DeadLetter(
        place_of(message), message.key(), message.value(), refusal.reason, refusal.field, rows
    )


def _sized(body: bytes) -> bytes:
    """:raises MalformedInput: this stream is too large, or would be once it is decompressed."""
    if not body:
        raise MalformedInput("it is empty, expected an Arrow IPC stream")
    rows, data = 0, len(body)
    if data <= MAX_ARROW_BYTES:
        try:
            size = stream_size(body)
        except ValueError:
            return body  # the parser says what is wrong with it
        rows, data = size.rows, max(data, size.data)
    if rows > MAX_ARROW_ROWS or data > MAX_ARROW_BYTES:
        limit = f"{MAX_ARROW_ROWS:,} rows and {MAX_ARROW_BYTES:,} bytes"
        raise MalformedInput(f"it has {rows:,} rows and {data:,} bytes, expected at most {limit}")
    return body
