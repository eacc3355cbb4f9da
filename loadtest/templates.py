"""Bodies that are never sent twice: all but a few places of each is fixed.

A service that knows a transaction it was sent before answers it without work, so every request
needs ids of its own; and event time must pass, or profiles would fill with one moment. What differs
from request to request has a fixed width, so that a load generator only puts pieces together.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

import msgspec
import numpy as np
import pyarrow as pa

from sentinel.fields import moment
from sentinel.transactions import Transactions


class Slot(StrEnum):
    """What stands in a place that is filled for each request."""

    NUMBER = "n"
    """The number of the request, 9 digits: most of a transaction's id."""
    SECOND = "s"
    """Its event time, such as ``2018-08-01T10:00:00Z``."""
    HOUR = "h"
    """The hour of it, such as ``2018-08-01T10``."""
    WORD = "w"
    """The high half of it in microseconds, as 4 bytes: the low half, 71 minutes, is each row's."""


MARKS = {
    Slot.NUMBER: b"#" * 9,
    Slot.SECOND: b"~" * 20,
    Slot.HOUR: b"^" * 13,
    Slot.WORD: b"\xb1\x9d\x9c\xe7",
}
"""What stands there before: as long, and nowhere else in a body."""

_MARK = re.compile(b"(" + b"|".join(map(re.escape, MARKS.values())) + b")")
_SLOTS = {mark: slot for slot, mark in MARKS.items()}

IDS_A_RUN = 1_000_000
"""Numbers that one run may use up; a run of seconds takes some ten thousand."""

_WORD = 2**32


class Template(msgspec.Struct, frozen=True):
    """A body in pieces: bytes that stay, and slots. ``rows``: transactions in it."""

    pieces: tuple[bytes | Slot, ...]
    rows: int

    @classmethod
    def of(cls, marked: bytes, rows: int) -> "Template":
        """The template of a body with marks: a number and a time for each row.

        :raises ValueError: there are not as many marks as rows ask for.
        """
        parts = [part for part in _MARK.split(marked) if part]
        pieces = tuple(_SLOTS.get(part, part) for part in parts)
        slots = [piece for piece in pieces if isinstance(piece, Slot)]
        if slots.count(Slot.NUMBER) != rows or len(slots) != 2 * rows:
            raise ValueError(f"{len(slots)} marks for {rows} rows; expected two a row")
        return cls(pieces, rows)

    @classmethod
    def fixed(cls, body: bytes) -> "Template":
        """A body that is sent as it is, again and again."""
        return cls((body,), 0)

    def filled(self, number: int, seconds: float) -> bytes:
        """The body of request ``number`` at this event time; what the load generator makes too."""
        stamp = moment(int(seconds) * 1_000_000).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        values = {
            Slot.NUMBER: b"%09d" % number,
            Slot.SECOND: stamp,
            Slot.HOUR: stamp[:13],
            Slot.WORD: struct.pack("<I", int(seconds) * 1_000_000 // _WORD),
        }
        return b"".join(values[p] if isinstance(p, Slot) else p for p in self.pieces)


class Fill(msgspec.Struct, frozen=True):
    """What the slots of a run begin with: the number before its first request, and event time in
    seconds since 1970, of which ``step`` pass from request to request."""

    number: int = 0
    seconds: float = 0
    step: float = 0


@dataclass(slots=True)
class Traffic:
    """Transactions that go on, run after run, where those before ended.

    ``numbers`` may be shared: no two runs that draw from the same use one twice.
    """

    numbers: Iterator[int]
    seconds: float
    pace: float
    """Seconds of event time from one transaction to the next."""

    def next_run(self, rows: int) -> Fill:
        """For requests of so many rows."""
        return Fill(next(self.numbers), self.seconds, self.pace * rows)

    def ran(self, fill: Fill, requests: int) -> None:
        """A run made so many requests at most."""
        self.seconds = max(self.seconds, fill.seconds + requests * fill.step)


def run_numbers() -> Iterator[int]:
    """Where the numbers of each run begin: 998 runs fit into 9 digits."""
    return count(IDS_A_RUN, IDS_A_RUN)


def single_templates(transactions: Transactions) -> list[Template]:
    """A JSON body for each of these, whose own ids and times are not used."""
    marks = {"transaction_id": _mark(Slot.NUMBER) + "000", "timestamp": _mark(Slot.SECOND)}
    bodies = (msgspec.json.encode(marks | row) for row in _rows(transactions))
    return [Template.of(body, 1) for body in bodies]


def json_template(transactions: Transactions) -> Template:
    """One JSON list of these (at most 1,000), spread over an hour."""
    size = len(transactions)
    content = []
    for at, row in enumerate(_rows(transactions)):
        minute, second = divmod(3600 * at // size, 60)
        stamp = f"{_mark(Slot.HOUR)}:{minute:02}:{second:02}Z"
        content.append({"transaction_id": f"{_mark(Slot.NUMBER)}{at:03}", "timestamp": stamp} | row)
    return Template.of(msgspec.json.encode(content), size)


def arrow_template(transactions: Transactions) -> Template:
    """One Arrow stream of these (at most 1,000), spread over 71 minutes."""
    size = len(transactions)
    low = np.arange(size, dtype="<u4") * np.uint32(_WORD // size)
    high = np.frombuffer(MARKS[Slot.WORD] * size, "<u4")
    times = np.stack([low, high], axis=1).view("<i8").ravel()
    table = pa.table(
        {
            "transaction_id": [f"{_mark(Slot.NUMBER)}{at:03}" for at in range(size)],
            "timestamp": pa.array(times).cast(pa.timestamp("us", "UTC")),
            **transactions.entities,
            "amount": transactions.numbers[:, 0],
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Template.of(sink.getvalue().to_pybytes(), size)


def _mark(slot: Slot) -> str:
    return MARKS[slot].decode()


def _rows(transactions: Transactions) -> Iterator[dict[str, object]]:
    entities = transactions.entities
    columns: Sequence[list[object]] = [
        *(column.to_pylist() for column in entities.values()),
        transactions.numbers[:, 0].tolist(),
    ]
    for row in zip(*columns, strict=True):
        yield dict(zip((*entities, "amount"), row, strict=True))
