"""A worker: from records to decisions, each exactly once.

    poll a batch -> parse -> score -> publish -> offsets into the same transaction -> commit

In that order, and three batches at once: while one commits, the next is scored, and the one after
is polled and parsed. One is scored after the other, and published in the same order, so what
happens to a customer keeps the order of its partition.

Whatever cannot be completed is aborted as a whole: nothing of it is seen by who reads what was
committed, and its records are read again from what is.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from confluent_kafka import Message, TopicPartition

from kafka_ingest.connection import Connection
from kafka_ingest.errors import Aborted
from kafka_ingest.intake import Batch, Intake
from kafka_ingest.meter import Meter
from kafka_ingest.outgoing import Counts, Outcome, Written
from kafka_ingest.publisher import Publisher
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames

logger = logging.getLogger("sentinel.kafka")

HELD_SECONDS = 0.5
"""A batch that the next stage has no room for so long makes the worker stop fetching; it goes on
polling then, as a member of its group must."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before the records of an aborted transaction are done again: first, doubled for each one
after it, and at most."""

HURRY_SECONDS = 0.02
"""Between two looks at whether a transaction that is to end soon has all that was under way."""

Read = TypeVar("Read")
Result = TypeVar("Result")


class Work(Protocol[Read]):
    """What a worker does with records."""

    async def prepare(self) -> None:
        """Called once, before all else."""

    def read(self, records: Sequence[Message]) -> Read:
        """In a thread of its own, while the batch before is judged."""

    async def judge(self, read: Read) -> Written:
        """What becomes of a batch. May wait as long as it has to; what it has begun may be left
        (it is cancelled) and asked for again. What it returns is called in the publisher's thread,
        while the next batch is judged."""


@dataclass(frozen=True, slots=True)
class _UnderWay(Generic[Read]):
    """A batch on its way. ``life``: what was aborted since it was polled makes it void."""

    batch: Batch
    read: Any
    life: int
    written: Written | None = None
    outcome: Outcome | None = None


class Worker(Generic[Read]):
    """Works until it is told to stop, or fails."""

    def __init__(
        self,
        connection: Connection,
        topics: TopicNames,
        settings: WorkerSettings,
        work: Work[Read],
        meter: Meter,
        *,
        topic: str,
        transactional_id: str,
        instance: str | None = None,
    ) -> None:
        """``topic`` is what it reads; ``transactional_id`` is its own, and that of whoever takes
        its place; ``instance`` makes it a static member of its group."""
        self._topic, self._settings, self._work, self._meter = topic, settings, work, meter
        self._reading = ThreadPoolExecutor(1, "intake")
        self._writing = ThreadPoolExecutor(1, "publisher")
        self._intake = Intake(connection, topic, settings, instance, self._on_leave)
        self._publisher = Publisher(connection, topics, transactional_id, settings)
        self._parsed: asyncio.Queue[_UnderWay[Read]] = asyncio.Queue(1)
        self._judged: asyncio.Queue[_UnderWay[Read]] = asyncio.Queue(2)
        self._judging: asyncio.Task[Written] | None = None
        self._transaction: list[_UnderWay[Read]] = []
        self._began = 0.0
        self._commit_seconds = 0.05
        self._life = 0
        self._count = 0
        self._pause = FIRST_PAUSE
        self._ending = False
        self._quiet = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        """What is under way is committed, then ``run`` returns."""
        self._stop.set()

    async def run(self) -> None:
        """Works.

        :raises WorkerFailed: it cannot go on; another may, in its place.
        :raises Fenced: another has its place.
        :raises ScoringFailed: the application fails at everything.
        """
        self._loop = asyncio.get_running_loop()
        if not await self._prepared():
            return
        await self._in_intake(self._intake.start)
        stages = [asyncio.create_task(stage()) for stage in (self._poll, self._judge, self._commit)]
        try:
            done, _ = await asyncio.wait(stages, return_when=asyncio.FIRST_COMPLETED)
            for stage in done:
                stage.result()
            await self._drain()  # only polling ends by itself, told to
        finally:
            await self._end(stages)

    async def _prepared(self) -> bool:
        """Whether all is ready before it is told to stop."""
        preparing = asyncio.create_task(self._prepare())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([preparing, stopping], return_when=asyncio.FIRST_COMPLETED)
            if preparing.done():
                preparing.result()
            return preparing.done()
        finally:
            preparing.cancel()
            stopping.cancel()

    async def _prepare(self) -> None:
        await self._work.prepare()
        await self._in_publisher(self._publisher.start)

    async def _end(self, stages: Sequence[asyncio.Task[None]]) -> None:
        self._ending = True
        for task in (*stages, *([self._judging] if self._judging else [])):
            task.cancel()
        await asyncio.gather(*stages, return_exceptions=True)
        self._publisher.leave()
        await self._in_intake(self._intake.close)
        self._reading.shutdown(wait=False)
        self._writing.shutdown(wait=False)

    async def _in_intake(self, call: Callable[[], Result]) -> Result:
        return await self._loop.run_in_executor(self._reading, call)

    async def _in_publisher(self, call: Callable[[], Result]) -> Result:
        return await self._loop.run_in_executor(self._writing, call)

    # Stage 1: poll a batch, parse it

    async def _poll(self) -> None:
        while not self._stop.is_set():
            life = self._life  # of before: what is aborted meanwhile makes this batch void too
            batch = await self._in_intake(self._intake.poll)
            if batch is None:
                await self._drain()
                await self._in_intake(self._intake.rewind)
                continue
            if not batch.ends:
                continue
            self._entered()
            self._meter.batch(len(batch.records))
            read = await self._in_intake(partial(self._work.read, batch.records))
            await self._hand_over(_UnderWay(batch, read, life))

    async def _hand_over(self, item: _UnderWay[Read]) -> None:
        """Gives a batch to the next stage; while that has no room, polls without fetching."""
        putting = asyncio.create_task(self._parsed.put(item))
        while not (await asyncio.wait([putting], timeout=HELD_SECONDS))[0]:
            await self._in_intake(self._intake.pause)
            await self._in_intake(self._intake.poll)
        await self._in_intake(self._intake.resume)

    # Stage 2: score

    async def _judge(self) -> None:
        while True:
            item = await self._parsed.get()
            if item.life == self._life:
                self._judging = asyncio.create_task(self._work.judge(item.read))
                await asyncio.wait([self._judging])
                if not self._judging.cancelled():
                    written = self._judging.result()
                    await self._judged.put(_UnderWay(item.batch, None, item.life, written))
                    continue
            await self._left(1)

    # Stage 3: publish, offsets into the same transaction, commit

    async def _commit(self) -> None:
        while True:
            item = await self._next_judged()
            try:
                if item is not None and item.life == self._life:
                    await self._publish(item)
                elif item is not None:
                    await self._left(1)
                if self._transaction and self._transaction[0].life != self._life:
                    raise Aborted("it is given up")
                if self._transaction and self._is_due():
                    await self._complete()
            except Aborted as error:
                logger.warning("%s: a transaction is aborted: %s", self._topic, error)
                await self._abort()

    async def _next_judged(self) -> "_UnderWay[Read] | None":
        """What is next, or ``None`` when it may be time to commit."""
        if not self._transaction:
            return await self._judged.get()
        left = self._began + self._open_seconds() - time.monotonic()
        getting = asyncio.ensure_future(self._judged.get())
        hurried = asyncio.ensure_future(self._hurry.wait())
        if self._hurry.is_set():  # what was on its way here may have been given up: look again soon
            hurried.cancel()
            left = min(left, HURRY_SECONDS)
        try:
            await asyncio.wait(
                [getting, hurried], timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
            )
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()
            hurried.cancel()

    def _open_seconds(self) -> float:
        """How long a transaction takes in more: what its commit takes, within bounds."""
        return min(self._commit_seconds, self._settings.commit_ms / 1000)

    def _is_due(self) -> bool:
        records = sum(len(item.batch.records) for item in self._transaction)
        return (
            records >= self._settings.commit_records
            or time.monotonic() >= self._began + self._open_seconds()
            or (self._hurry.is_set() and len(self._transaction) == self._count)
        )

    async def _publish(self, item: _UnderWay[Read]) -> None:
        self._transaction.append(item)
        if len(self._transaction) == 1:
            self._began = time.monotonic()
            await self._in_publisher(self._publisher.begin)
        assert item.written is not None
        written = item.written

        def publish() -> Outcome:
            outcome = written()
            self._publisher.publish(outcome)
            return outcome

        outcome = await self._in_publisher(publish)
        self._transaction[-1] = _UnderWay(item.batch, None, item.life, None, outcome)

    async def _complete(self) -> None:
        start = time.monotonic()
        offsets, counts = self._offsets()
        member = self._intake.member
        await self._in_publisher(lambda: self._publisher.commit(offsets, member))
        took = time.monotonic() - start
        self._pause = FIRST_PAUSE
        self._commit_seconds += 0.2 * (took - self._commit_seconds)
        total = sum(counts.values(), Counts())
        for partition, more in counts.items():
            self._intake.base[partition] = self._intake.base.get(partition, Counts()) + more
        self._meter.committed(total, self._ages())
        await self._end_transaction()

    def _ages(self) -> list[float]:
        return [_age(item.batch) for item in self._transaction if item.batch.records]

    def _offsets(self) -> tuple[list[TopicPartition], dict[int, Counts]]:
        """How far the transaction reads, and what it adds to each partition's counts."""
        ends: dict[int, int] = {}
        counts: dict[int, Counts] = {}
        for item in self._transaction:
            assert item.outcome is not None
            ends |= item.batch.ends
            for partition, more in item.outcome.counts.items():
                counts[partition] = counts.get(partition, Counts()) + more
        base = self._intake.base
        return [
            TopicPartition(
                self._topic,
                partition,
                end,
                (base.get(partition, Counts()) + counts.get(partition, Counts())).text(),
            )
            for partition, end in ends.items()
        ], counts

    async def _abort(self) -> None:
        self._void()
        self._meter.aborted()
        await self._in_publisher(self._publisher.abort)
        # What was refused is refused again at once: whoever refuses needs time.
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        await self._end_transaction()

    async def _end_transaction(self) -> None:
        done, self._transaction = len(self._transaction), []
        await self._left(done)

    # What is under way

    def _entered(self) -> None:
        self._count += 1
        self._meter.occupied(self._count)

    async def _left(self, batches: int) -> None:
        self._count -= batches
        self._meter.occupied(self._count)
        async with self._quiet:
            self._quiet.notify_all()

    def _void(self) -> None:
        """Everything under way is given up, and read again."""
        self._life += 1
        self._intake.again()
        if self._judging is not None:
            self._judging.cancel()

    async def _drain(self) -> None:
        """Returns when nothing is under way: it was committed, or, too late, aborted."""
        self._hurry.set()
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._nothing_under_way()
        except TimeoutError:
            logger.warning("%s: what is under way is given up", self._topic)
            await self._give_up()
        finally:
            self._hurry.clear()

    async def _give_up(self) -> None:
        """Returns when nothing is under way; what is not committed by now is aborted."""
        self._void()
        self._hurry.set()
        await self._nothing_under_way()
        self._hurry.clear()

    async def _nothing_under_way(self) -> None:
        async with self._quiet:
            await self._quiet.wait_for(lambda: self._count == 0)

    def _on_leave(self, lost: bool) -> None:
        """In the intake's thread, which is held up until nothing is under way."""
        if self._ending:
            return
        leaving = self._give_up() if lost else self._drain()
        asyncio.run_coroutine_threadsafe(leaving, self._loop).result()


def _age(batch: Batch) -> float:
    """Seconds since the first of these records was written."""
    _, at_ms = batch.records[0].timestamp() or (0, 0)
    return max(0.0, time.time() - at_ms / 1000)
