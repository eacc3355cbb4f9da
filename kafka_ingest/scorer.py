"""What a worker asks for decisions, and what it does until it has them."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from kafka_ingest.errors import ScoringFailed
from kafka_ingest.keys import record_keys
from kafka_ingest.meter import DEGRADED, SHED, Meter
from kafka_ingest.outgoing import Counts, Outcome, Written
from kafka_ingest.reading import Read, RecordReader, Refusal, dead_letter, is_arrow
from sentinel.answers import each_json
from sentinel.decision import APPROVE
from sentinel.errors import FieldError
from sentinel.scoring import Decisions, join
from sentinel.stream_exchange import (
    Contract,
    Labelled,
    OtherContract,
    Scored,
    TryLater,
    unpack_decisions,
)

logger = logging.getLogger("sentinel.kafka")

MOST_FAILED = 3
"""Records in a row that the application fails at, before it is taken to be at fault itself."""

FIRST_PAUSE, WHOLE_PAUSE = 0.05, 0.5
"""Seconds before a batch whose answers were degraded is tried again: first, for a lane that was
late once is back in a moment; doubled each time, and at most."""


class App(Protocol):
    """The application, wherever it runs. What one has to wait for is ``TryLater``."""

    async def contract(self) -> Contract | TryLater:
        """What records are to be read by now."""

    async def score(
        self, topic: str, schema: str, columns: bytes
    ) -> Scored | TryLater | OtherContract:
        """See ``FraudRouter.stream_score``.

        :raises ScoringFailed: it failed at these transactions.
        """

    async def label(self, records: Sequence[bytes]) -> Labelled | TryLater:
        """See ``FraudRouter.stream_label``."""


class TransactionScorer:
    """Transactions to decisions, alerts and dead letters."""

    def __init__(self, app: App, topic: str, whole_s: float, meter: Meter) -> None:
        """``topic``: whose ids these are; ``whole_s``: see ``WorkerSettings``."""
        self._app = app
        self._topic = topic
        self._whole_s = whole_s
        self._meter = meter
        self._reader: RecordReader | None = None
        self._failed = 0

    async def prepare(self) -> None:
        """Learns what to read by. Waits for the application, however long."""
        while isinstance(found := await self._app.contract(), TryLater):
            await self._pause(found.seconds, SHED)
        self._reader = RecordReader(found)

    def read(self, messages: Sequence[Message]) -> Read:
        """In a thread of its own, while the batch before is scored."""
        assert self._reader is not None, "prepared first"
        return self._reader.read(messages)

    async def judge(self, read: Read) -> Written:
        """See ``Work``: waits until there is room and nothing is missing."""
        while True:
            judged = _Judged(read)
            try:
                if len(read.transactions):
                    await self._score(judged, read, 0)
                return judged.outcome
            except _ReadAnew as error:
                logger.warning("records are read by another description from now on")
                self._reader = RecordReader(error.contract)
                read = await asyncio.to_thread(self.read, read.messages)

    async def _score(self, judged: "_Judged", some: Read, start: int) -> None:
        """Adds what becomes of ``some``, whose first transaction is number ``start``."""
        try:
            scored = await self._scored(some)
        except ScoringFailed as error:
            await self._apart(judged, some, start, error)
            return
        self._failed = 0
        judged.add(start, scored)

    async def _apart(self, judged: "_Judged", some: Read, start: int, error: ScoringFailed) -> None:
        """Finds the transaction that the application fails at, by halves.

        :raises ScoringFailed: it fails at so many that it is not theirs.
        """
        size = len(some.transactions)
        if size > 1:
            middle = size // 2
            await self._score(judged, some.take(slice(0, middle)), start)
            await self._score(judged, some.take(slice(middle, size)), start + middle)
            return
        self._failed += 1
        if self._failed >= MOST_FAILED:
            raise error
        logger.error("a record cannot be scored: %s", error)
        judged.refuse(start, FieldError(None, "", None, f"a good record; scoring it: {error}"))

    async def _scored(self, some: Read) -> Scored:
        """The answers, once there are any.

        :raises _ReadAnew: the transactions were read by a description that is served no more.
        """
        until, pause = time.monotonic() + self._whole_s, FIRST_PAUSE
        while True:
            match await self._app.score(self._topic, some.contract.schema, some.packed):
                case TryLater(seconds=seconds):
                    await self._pause(seconds, SHED)
                case OtherContract(contract=contract):
                    raise _ReadAnew(contract)
                case Scored() as scored:
                    degraded = unpack_decisions(scored.decisions).degraded
                    if not degraded.any() or time.monotonic() >= until:
                        return scored
                    await self._pause(pause, DEGRADED)
                    pause = min(2 * pause, WHOLE_PAUSE)

    async def _pause(self, seconds: float, why: str) -> None:
        self._meter.waits(why)
        await asyncio.sleep(seconds)


class _ReadAnew(Exception):
    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.contract = contract


class _Judged:
    """What has become of the transactions of a batch so far."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._refused = dict(read.refused)
        self._rows: list[NDArray[np.intp]] = []
        self._decisions: list[Decisions] = []

    def add(self, start: int, scored: Scored) -> None:
        """The answers to transactions from number ``start`` on."""
        self._rows.append(scored.rows + start)
        self._decisions.append(unpack_decisions(scored.decisions))
        for error in scored.refused:
            self.refuse(start + (error.index or 0), error)

    def refuse(self, row: int, error: FieldError) -> None:
        """Transaction number ``row`` gets no decision."""
        at, within = int(self._read.sources[row]), int(self._read.within[row])
        before = self._refused[at].errors if at in self._refused else ()
        many = is_arrow(self._read.messages[at].headers())
        here = msgspec.structs.replace(error, index=within)
        self._refused[at] = Refusal.of([*before, here], many)

    def outcome(self) -> Outcome:
        """All of it, once nothing is to be added."""
        messages = self._read.messages
        dead = [dead_letter(messages[at], why) for at, why in sorted(self._refused.items())]
        if not self._decisions:
            return Outcome(dead=dead, counts=self._counts(np.empty(0, np.intp)))
        transactions = self._read.transactions
        rows, decisions = np.concatenate(self._rows), join(self._decisions)
        return Outcome(
            values=each_json(decisions),
            keys=record_keys(transactions.take(rows), self._read.contract.description),
            alerts=np.flatnonzero(decisions.decision != APPROVE).tolist(),
            dead=dead,
            counts=self._counts(self._read.sources[rows]),
        )

    def _counts(self, sources: NDArray[np.intp]) -> dict[int, Counts]:
        """By partition; ``sources`` are the messages of the decisions."""
        messages = self._read.messages
        partitions = np.array([message.partition() or 0 for message in messages], np.intp)
        columns = (partitions, partitions[sources], partitions[list(self._refused)])
        tallies = [np.bincount(column) if len(column) else () for column in columns]
        counts = {int(partition): Counts() for partition in np.unique(partitions)}
        for name, tally in zip(Counts.__struct_fields__, tallies, strict=True):
            for partition in np.flatnonzero(tally).tolist():
                setattr(counts[partition], name, int(tally[partition]))
        return counts
