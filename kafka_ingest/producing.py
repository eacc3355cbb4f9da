"""Transactions into a topic, at a pace: what ``sentinel produce`` does."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event

import numpy as np
from confluent_kafka import KafkaError, Message, Producer
from numpy.typing import NDArray

from kafka_ingest.connection import Connection, KafkaFailed
from kafka_ingest.keys import record_keys
from kafka_ingest.transaction_json import TransactionJson
from sentinel.dataset import DatasetDescription
from sentinel.input_files import Piece, RowReader
from sentinel.made_up import random_transactions
from sentinel.row_tables import good_rows, to_transactions
from sentinel.transactions import Transactions

SLICE = 1_000
"""Records handed to the client between two looks at the clock: some 10 ms of its work."""

_TICK = 0.02
"""Longest wait between two looks at the clock, in seconds."""

_PAUSE = 0.005
"""Shortest: what is due by then goes together, for at thousands a second a look for each record
keeps a core busy."""

PRODUCER = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java's clients: a customer's partition is the same
    "compression.type": "lz4",
    "linger.ms": 5,
    "batch.size": 1 << 20,
    "queue.buffering.max.messages": 200_000,
    "delivery.report.only.error": True,  # a call for each record would cost half the speed
}
"""Each record once, in its key's order. Half a second's worth waits in the client at most."""

Due = Callable[[Transactions, int], NDArray[np.float64] | None]
"""When, in seconds from the start, each of n transactions is due, the first of which is number
``first`` of all; ``None``: at once. Ascending."""


def at_once(_: Transactions, first: int) -> None:
    """As fast as they can be sent."""


def at_rate(rate: float) -> Due:
    """So many a second."""

    def due(transactions: Transactions, first: int) -> NDArray[np.float64]:
        return np.arange(first, first + len(transactions)) / rate

    return due


class AtSpeed:
    """As their own times say, so many times as fast; one that is out of order goes with the one
    before it."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start: int | None = None
        self._last = 0.0

    def __call__(self, transactions: Transactions, _: int) -> NDArray[np.float64]:
        """See ``Due``."""
        times = transactions.times
        assert times is not None
        if self._start is None and len(times):
            self._start = int(times[0])
        due = (times - (self._start or 0)) / (1e6 * self._speed)
        due = np.maximum.accumulate(np.concatenate([[self._last], due]))[1:]
        self._last = float(due[-1]) if len(due) else self._last
        return due


@dataclass(slots=True)
class Rows:
    """Where transactions come from, and what could not be used of it."""

    batches: Iterator[Transactions]
    refused: int = 0
    first_error: str = ""


def rows_of_files(pieces: list[Piece], description: DatasetDescription) -> Rows:
    """The rows of these files in order; those that the description refuses are counted."""

    def batches() -> Iterator[Transactions]:
        reader, first = RowReader(description), 0
        for piece in pieces:
            for table in reader.tables(piece, first):
                first += table.num_rows
                errors = table.num_rows - len(good_rows(table))
                if errors and not rows.refused:
                    rows.first_error = table.column("error").drop_null()[0].as_py()
                rows.refused += errors
                yield to_transactions(table, description)

    rows = Rows(iter(()))
    rows.batches = batches()
    return rows


def made_up_rows(description: DatasetDescription, seed: int | None, rate: float | None) -> Rows:
    """Transactions of this moment without an end, made up."""
    rng = np.random.default_rng(seed)
    # Few at a time where they are slow, so that each has about the time at which it is sent.
    size = SLICE if rate is None else int(np.clip(rate * _TICK, 1, SLICE))

    def batches() -> Iterator[Transactions]:
        while True:
            yield random_transactions(description, size, rng, time.time())

    return Rows(batches())


@dataclass(frozen=True, slots=True)
class Produced:
    """``records`` were acknowledged; ``complete``: those are all there were."""

    records: int
    seconds: float
    complete: bool


class Sender:
    """Sends transactions of one description to one topic."""

    def __init__(
        self, connection: Connection, topic: str, description: DatasetDescription, stop: Event
    ) -> None:
        """``stop``: when it is set nothing more is sent, and what was is waited for.

        :raises UsageError: a setting of the connection is none.
        """
        self._producer: Producer = connection.open(Producer, PRODUCER)
        self._servers = connection.servers
        self._topic = topic
        self._description = description
        self._json = TransactionJson(description)
        self._stop = stop
        self._sent = 0
        self._failed = 0
        self._error: KafkaError | None = None

    def send(
        self,
        batches: Iterator[Transactions],
        due: Due,
        limit: int | None,
        on_sent: Callable[[int], None],
    ) -> Produced:
        """Sends them, ``limit`` at most, each when it is due.

        :raises KafkaFailed: records were not acknowledged.
        """
        start = time.monotonic()
        complete = self._send(batches, due, limit, on_sent, start)
        waiting = self._producer.flush(30)
        done = self._sent - self._failed - waiting
        if self._failed or waiting:
            why = "no answer" if self._error is None else self._error.str()
            problem = f"{self._servers}: {self._sent - done:,} of {self._sent:,} records for topic"
            raise KafkaFailed(f"{problem} {self._topic!r} were not acknowledged: {why}")
        return Produced(done, time.monotonic() - start, complete)

    def _send(
        self,
        batches: Iterator[Transactions],
        due: Due,
        limit: int | None,
        on_sent: Callable[[int], None],
        start: float,
    ) -> bool:
        for batch in batches:
            some = batch if limit is None else batch.take(slice(0, limit - self._sent))
            when = due(some, self._sent)
            keys, values = record_keys(some, self._description), self._json.values(some)
            at = 0
            while at < len(values):
                if self._stop.is_set() or self._failed:
                    return False
                ready = len(values)
                if when is not None:
                    now = time.monotonic() - start
                    ready = int(np.searchsorted(when, now, "right"))
                    if ready <= at:
                        self._producer.poll(float(np.clip(when[at] - now, _PAUSE, _TICK)))
                        continue
                until = min(ready, at + SLICE)
                self._hand_over(keys[at:until], values[at:until])
                at = until
                on_sent(self._sent)
            if limit is not None and self._sent >= limit:
                break
        return True

    def _hand_over(self, keys: list[bytes], values: list[bytes]) -> None:
        produce, topic, delivered = self._producer.produce, self._topic, self._delivered
        for key, value in zip(keys, values, strict=True):
            while True:
                try:
                    produce(topic, value, key, on_delivery=delivered)
                    self._sent += 1
                    break
                except BufferError:  # the client is full: the brokers are slower than we are
                    self._producer.poll(_TICK)
                    if self._stop.is_set() or self._failed:
                        return
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed += 1
            self._error = self._error or error
