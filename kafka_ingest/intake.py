"""The reading half of a worker: batches of records, and what it takes to give partitions back.

All of it belongs to one thread, in which Kafka also says that partitions come or go: within
``poll``. Who is told then holds that thread up until what is under way of them has ended.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as Record
from confluent_kafka.admin import AdminClient

from kafka_ingest.connection import Connection
from kafka_ingest.errors import WorkerFailed
from kafka_ingest.outgoing import Counts, counts_of
from kafka_ingest.settings import WorkerSettings

logger = logging.getLogger("sentinel.kafka")

ASK_SECONDS = 10.0
"""Longest wait for the broker to say what is committed, before it is asked again."""


ASK_PAUSE = 0.1
"""Seconds until then."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order of their partitions; ``ends``: by partition the offset after the last
    thing that was read of it, which may be a transaction's marker and no record."""

    records: Sequence[Record]
    ends: Mapping[int, int] = field(default_factory=dict)


class Intake:
    """A member of the group. ``base`` has, by partition that is ours, what was counted before."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        settings: WorkerSettings,
        instance: str | None,
        on_leave: Callable[[bool], None],
    ) -> None:
        """``instance``: name of a static member; ``on_leave(lost)`` is told that partitions go, and
        returns when nothing of them is under way any more; ``lost``: they are another's already."""
        self._topic = topic
        self._settings = settings
        self._on_leave = on_leave
        self._ends: dict[int, int] = {}
        self._begun: set[int | None] = set()
        self._moved = False
        self._paused = False
        self.base: dict[int, Counts] = {}
        self.member: Any = None
        """Who we are in the group, for the transaction. Asked in this thread alone: another's
        question is not answered while this one is held up by ``on_leave``."""
        self._admin: AdminClient = connection.admin()
        self.consumer: Consumer = connection.open(Consumer, _config(settings, instance))

    def start(self) -> None:
        """Joins the group; partitions come with the first polls."""
        self.consumer.subscribe(
            [self._topic],
            on_assign=self._assigned,
            on_revoke=lambda _, gone: self._leave(gone, lost=False),
            on_lost=lambda _, gone: self._leave(gone, lost=True),
        )

    def poll(self) -> Batch | None:
        """The next batch; ``None`` where partitions have come or gone, or must be read again: then
        nothing may be under way when ``rewind`` is called.

        :raises WorkerFailed: the brokers will not have it.
        """
        found = self.consumer.consume(self._settings.batch_records, self._settings.poll_ms / 1000)
        records = [record for record in found if record.error() is None]
        self._begun |= {record.partition() for record in records}
        ends: dict[Any, int] = {
            record.partition(): (record.offset() or 0) + 1 for record in records
        }
        for other in found:
            if (error := other.error()) is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                self._ended(other, ends)
            elif error.fatal():
                raise WorkerFailed(f"{self._topic}: {error.str()}")
            else:
                logger.warning("%s: %s", self._topic, error.str())
        if self._moved or (self._paused and ends):
            self._moved = True
            return None
        self.member = self.consumer.consumer_group_metadata()
        self._ends |= ends
        return Batch(records, ends)

    def _ended(self, mark: Record, ends: dict[Any, int]) -> None:
        """Behind the last record there may be markers, which are done with too."""
        partition, offset = mark.partition(), mark.offset()
        assert partition is not None
        assert offset is not None
        if offset > max(self._ends.get(partition, -1), ends.get(partition, -1)):
            ends[partition] = offset

    def rewind(self) -> None:
        """Goes on from what is committed, in every partition that is ours now."""
        self._moved = False
        ours = [TopicPartition(self._topic, one.partition) for one in self.consumer.assignment()]
        self._ends, self.base = {}, {}
        for where in self._committed(ours) if ours else []:
            self.base[where.partition] = counts_of(where.metadata)
            if where.offset >= 0:
                self._ends[where.partition] = where.offset
            if where.partition in self._begun:
                self._seek(where.partition, where.offset)

    def _seek(self, partition: int, offset: int) -> None:
        """Only where fetching has begun: elsewhere it begins at what is committed anyway, and the
        client would wait for ever to be able to seek."""
        at = offset if offset >= 0 else OFFSET_BEGINNING
        try:
            self.consumer.seek(TopicPartition(self._topic, partition, at))
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise WorkerFailed(f"{self._topic}: {error.args[0].str()}") from error

    def again(self) -> None:
        """What was read and not committed is to be read again: ``poll`` says so next."""
        self._moved = True

    def pause(self) -> None:
        """Nothing more is fetched, and nothing that is polled is a record, until ``resume``."""
        if not self._paused:
            self._paused = True
            self.consumer.pause(self.consumer.assignment())

    def resume(self) -> None:
        """Ends ``pause``."""
        if self._paused:
            self._paused = False
            self.consumer.resume(self.consumer.assignment())

    def close(self) -> None:
        """Leaves the group; ``on_leave`` is told before."""
        self.consumer.close()

    def _committed(self, ours: list[TopicPartition]) -> list[TopicPartition]:
        """By a client of its own: the consumer's requests wait behind its joining of the group,
        which others may hold up. An open transaction of who had a partition before is waited for.
        """
        asked = ConsumerGroupTopicPartitions(self._settings.group, ours)
        while True:
            (answer,) = self._admin.list_consumer_group_offsets(
                [asked], require_stable=True, request_timeout=ASK_SECONDS
            ).values()
            try:
                answered = answer.result().topic_partitions
                # A partition whose offset is not known yet has an error and no offset: taken for
                # one that was never committed, all of it would be done again.
                unknown = next((one.error for one in answered if one.error is not None), None)
            except KafkaException as error:
                unknown = error.args[0]
                if unknown.fatal():
                    raise WorkerFailed(f"{self._topic}: {unknown.str()}") from error
            if unknown is None:
                return answered
            logger.warning("%s: %s; asked again", self._topic, unknown.str())
            time.sleep(ASK_PAUSE)

    def _assigned(self, _: Consumer, came: list[TopicPartition]) -> None:
        logger.info("%s: partitions %s came", self._topic, [one.partition for one in came])
        self._moved = True

    def _leave(self, gone: list[TopicPartition], lost: bool) -> None:
        logger.info("%s: partitions %s go", self._topic, [one.partition for one in gone])
        self._moved = True
        self._begun -= {one.partition for one in gone}
        if not lost:
            self.member = self.consumer.consumer_group_metadata()
        self._on_leave(lost)


def _config(settings: WorkerSettings, instance: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "group.id": settings.group,
        "group.protocol": settings.protocol,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": int(1024 * settings.prefetch_mb),
    }
    if settings.protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
    if instance is not None:
        config["group.instance.id"] = instance
    return config
