"""What becomes of a batch of records: what is written, and how far it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Message

REASON_BYTES = 1_000
"""Most bytes of a reason in a header."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


def place_of(message: Message) -> Place:
    """Where this record lies; one that was read lies somewhere."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Place(topic, partition, offset)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that got no decision: its own key and bytes, and why."""

    place: Place
    key: bytes | None
    value: bytes | None
    reason: str
    field: str = ""
    rows: bytes = b""
    """Of a record with many transactions: JSON of what was wrong with which of them."""

    def headers(self) -> list[tuple[str, bytes]]:
        """Said beside the bytes, which are left as they came."""
        said = [
            ("reason", self.reason.encode("utf-8", "replace")[:REASON_BYTES]),
            ("field", self.field.encode("utf-8", "replace")),
            ("topic", self.place.topic.encode()),
            ("partition", str(self.place.partition).encode()),
            ("offset", str(self.place.offset).encode()),
        ]
        return [*said, ("rows", self.rows)] if self.rows else said


class Counts(msgspec.Struct):
    """What became of the records of one partition. Lies beside its committed offset, so that it is
    as exact as that is, whoever dies."""

    records: int = 0
    decisions: int = 0
    dead_letters: int = 0

    def __add__(self, more: "Counts") -> "Counts":
        return Counts(
            self.records + more.records,
            self.decisions + more.decisions,
            self.dead_letters + more.dead_letters,
        )

    def text(self) -> str:
        """As it lies beside an offset; ``counts_of`` reads it."""
        return msgspec.json.encode(self).decode()

    def __sub__(self, less: "Counts") -> "Counts":
        return self + Counts(-less.records, -less.decisions, -less.dead_letters)


def counts_of(metadata: str | None) -> Counts:
    """The counts beside a committed offset; none where somebody else committed it."""
    try:
        return msgspec.json.decode((metadata or "").encode(), type=Counts)
    except msgspec.DecodeError:
        return Counts()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch comes to. ``values`` and ``keys`` of the answers, in order; ``alerts`` are the
    positions of those that are repeated there; ``counts`` by partition."""

    values: Sequence[bytes] = ()
    keys: Sequence[bytes] = ()
    alerts: Sequence[int] = ()
    dead: Sequence[DeadLetter] = ()
    counts: dict[int, Counts] = field(default_factory=dict)


Written = Callable[[], Outcome]
"""Writes out what was decided on a batch."""
