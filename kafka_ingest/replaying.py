"""A range of a topic scored under another bundle: what ``sentinel replay`` does.

    read in one order -> score in this process -> decisions and progress in one transaction

The order is the same at every run, so that profiles see the same: killed and run again, what was
done is read again for the profiles alone, and no decision is written twice. How far it came, and
which range it was, is kept by the brokers as the offsets of a group of its own.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from kafka_ingest.bundle_app import BundleApp
from kafka_ingest.connection import Connection, KafkaFailed, patiently
from kafka_ingest.errors import Aborted
from kafka_ingest.merged import READER, MergedRecords
from kafka_ingest.meter import Meter
from kafka_ingest.offset_range import Bound, Range, ranges_of
from kafka_ingest.outgoing import Counts, Outcome, Written
from kafka_ingest.publisher import Publisher
from kafka_ingest.scorer import TransactionScorer
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames, partitions_of
from sentinel.bundle import Bundle
from sentinel.errors import UsageError

ATTEMPTS = 5
"""Times that a transaction is tried before the brokers are taken to be unable."""

OnRecords = Callable[[int], None]
"""Is told how many places of the range are done."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for. The same job goes on where it was stopped."""

    source: str
    output: str
    since: Bound | None
    until: Bound | None

    def group(self, bundle: Bundle) -> str:
        """The name under which the brokers keep how far it came."""
        text = repr((self.source, self.output, self.since, self.until, bundle.digest))
        return f"sentinel-replay-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class _Kept(msgspec.Struct):
    """What lies beside a committed offset: the range as it was at the first run."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Progress:
    """``ranges`` of the whole job by partition; ``done``: the offset each has come to."""

    ranges: Mapping[int, Range]
    done: Mapping[int, int]

    @property
    def size(self) -> int:
        """How many places, most of which hold a record."""
        return sum(stop - start for start, stop in self.ranges.values())

    @property
    def behind(self) -> int:
        """How many of them are done."""
        return sum(self.done[partition] - start for partition, (start, _) in self.ranges.items())

    @property
    def complete(self) -> bool:
        return self.behind == self.size


def progress_of(connection: Connection, job: Job, group: str) -> Progress:
    """How far the job has come; where it begins, its range is settled.

    :raises UsageError: a bound cannot be.
    :raises KafkaFailed: the topic is not there, or its brokers do not answer.
    """
    partitions = partitions_of(connection, job.source)
    consumer: Consumer = connection.open(Consumer, {**READER, "group.id": group})
    try:
        asked = [TopicPartition(job.source, partition) for partition in partitions]
        answered = patiently(lambda: consumer.committed(asked, 30.0))
        found = {p.partition: p for p in answered if p.offset >= 0}
        if found:
            kept = {p: msgspec.json.decode(found[p].metadata or "", type=_Kept) for p in found}
            ranges = {p: (each.start, each.stop) for p, each in kept.items()}
            return Progress(ranges, {p: one.offset for p, one in found.items()})
        ranges = ranges_of(consumer, job.source, partitions, job.since, job.until)
        progress = Progress(ranges, {p: start for p, (start, _) in ranges.items()})
        start = _offsets(job.source, progress, progress.done)
        patiently(lambda: consumer.commit(offsets=start, asynchronous=False))
        return progress
    except KafkaException as error:
        raise KafkaFailed(f"topic {job.source!r}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _offsets(topic: str, progress: Progress, done: Mapping[int, int]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, offset, _kept(progress.ranges[partition]))
        for partition, offset in done.items()
    ]


def _kept(whole: Range) -> str:
    return msgspec.json.encode(_Kept(*whole)).decode()


@dataclass(slots=True)
class Replayed:
    """What this run did. ``profiles``: where they came from; ``None`` if none were needed."""

    counts: Counts
    profiles: str | None
    complete: bool


class Replay:
    """One run of a job."""

    def __init__(
        self, connection: Connection, job: Job, bundle: Bundle, stop: Event, batch: int
    ) -> None:
        """``batch``: records scored and committed together; half a second's work, beside which a
        commit is little, is 16,384. ``stop``: when it is set the run ends with what is committed.

        :raises UsageError: it would write where it reads.
        :raises BundleError: the bundle cannot be used.
        """
        if job.source == job.output:
            raise UsageError(f"--output is {job.output!r}, which is read; expected another topic")
        self._connection, self._job, self._stop, self._batch = connection, job, stop, batch
        self._group = job.group(bundle)
        self._now = 0.0
        self._app = BundleApp(bundle, clock=lambda: self._now)
        settings = WorkerSettings(group=self._group)
        self._scorer = TransactionScorer(self._app, job.source, 0, Meter())
        names = TopicNames(input=job.source, output=job.output)
        self._publisher = Publisher(connection, names, self._group, settings)

    def progress(self) -> Progress:
        """How far the job has come. Another run of it is shut out from here on.

        :raises KafkaFailed: the brokers do not answer, or the topic is not there.
        """
        self._publisher.start()
        return progress_of(self._connection, self._job, self._group)

    def run(self, progress: Progress, on_records: OnRecords) -> Replayed:
        """Does what is left.

        :raises SentinelError: it cannot go on; what is committed stays.
        """
        if progress.complete:
            return Replayed(Counts(), self._app.profiles, complete=True)
        return asyncio.run(self._run(progress, on_records))

    async def _run(self, progress: Progress, on_records: OnRecords) -> Replayed:
        await self._scorer.prepare()
        total = Counts()
        records = MergedRecords(
            self._connection, self._job.source, self._group, self._still(progress)
        )
        done = dict(progress.done)
        try:
            for messages in records.batches(self._batch):
                if self._stop.is_set():
                    return Replayed(total, self._app.profiles, complete=False)
                before = [m for m in messages if (m.offset() or 0) < done[m.partition() or 0]]
                new = [m for m in messages if (m.offset() or 0) >= done[m.partition() or 0]]
                if before:
                    await self._judge(before)
                if new:
                    outcome = (await self._judge(new))()
                    done |= {m.partition() or 0: (m.offset() or 0) + 1 for m in new}
                    self._commit(outcome, _offsets(self._job.source, progress, done), records)
                    total = sum(outcome.counts.values(), total)
                on_records(Progress(progress.ranges, done).behind)
            ends = {partition: stop for partition, (_, stop) in progress.ranges.items()}
            self._commit(Outcome(), _offsets(self._job.source, progress, ends), records)
            return Replayed(total, self._app.profiles, complete=True)
        finally:
            records.close()

    def _still(self, progress: Progress) -> Mapping[int, Range]:
        """What is to be read: all of it where profiles must see what was done before."""
        if self._app.profiles is not None:
            return progress.ranges
        return {p: (progress.done[p], stop) for p, (_, stop) in progress.ranges.items()}

    async def _judge(self, messages: Sequence[Message]) -> Written:
        self._now = max(self._now, messages[-1].timestamp()[1] / 1000)
        return await self._scorer.judge(self._scorer.read(messages))

    def _commit(
        self, outcome: Outcome, offsets: Sequence[TopicPartition], records: MergedRecords
    ) -> None:
        """Decisions and progress, both or none. What could not be scored is counted alone."""
        written = replace(outcome, alerts=(), dead=())
        group = records.consumer.consumer_group_metadata()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._publisher.begin()
                self._publisher.publish(written)
                self._publisher.commit(offsets, group)
                return
            except Aborted as error:
                self._publisher.abort()
                if attempt == ATTEMPTS:
                    problem = f"topic {self._job.output!r}: a transaction failed {ATTEMPTS} times"
                    raise KafkaFailed(f"{problem}: {error}") from error
