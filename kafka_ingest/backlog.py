"""How far a group is behind, asked from outside it."""

from dataclasses import dataclass

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from kafka_ingest.connection import Connection, KafkaFailed, patiently
from kafka_ingest.outgoing import Counts, counts_of
from kafka_ingest.topics import partitions_of

ASK_SECONDS = 10.0
"""Longest wait for an answer of the brokers."""


@dataclass(frozen=True, slots=True)
class Look:
    """A topic and a group as they stood at one moment, by partition."""

    starts: dict[int, int]
    ends: dict[int, int]
    committed: dict[int, int]
    """Without those that the group has never committed."""
    counts: Counts
    """What the group's records have come to since its beginning."""

    @property
    def lag(self) -> int:
        """Offsets from what is committed to the end."""
        return sum(
            max(0, end - self.committed.get(partition, self.starts.get(partition, 0)))
            for partition, end in self.ends.items()
        )

    def reached(self, ends: dict[int, int]) -> bool:
        """Whether everything before these offsets is done."""
        return all(
            self.committed.get(partition, self.starts.get(partition, 0)) >= end
            for partition, end in ends.items()
        )


class BacklogEye:
    """Looks at one topic and group. Blocks; one thread at a time."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        """:raises KafkaFailed: no such topic, or no answer."""
        self._group = group
        self._admin = connection.admin()
        self._where = [TopicPartition(topic, at) for at in partitions_of(connection, topic)]

    @property
    def partitions(self) -> int:
        """How many the topic has."""
        return len(self._where)

    def look(self, patience: float = 0.0) -> Look:
        """Asks again for so many seconds where the brokers are not ready to answer.

        :raises KafkaFailed: they do not answer.
        """
        try:
            return patiently(self._look, patience)
        except KafkaException as error:
            raise KafkaFailed(f"group {self._group!r}: {error.args[0].str()}") from error

    def _look(self) -> Look:
        asked = ConsumerGroupTopicPartitions(self._group, self._where)
        (group,) = self._admin.list_consumer_group_offsets(
            [asked], require_stable=True, request_timeout=ASK_SECONDS
        ).values()
        found = group.result().topic_partitions
        for one in found:  # unknown is not the same as never committed
            if one.error is not None:
                raise KafkaException(one.error)
        return Look(
            self._offsets(OffsetSpec.earliest()),  # type: ignore[no-untyped-call]
            self._offsets(OffsetSpec.latest()),  # type: ignore[no-untyped-call]
            {one.partition: one.offset for one in found if one.offset >= 0},
            sum((counts_of(one.metadata) for one in found), Counts()),
        )

    def _offsets(self, spec: OffsetSpec) -> dict[int, int]:
        answers = self._admin.list_offsets(
            dict.fromkeys(self._where, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=ASK_SECONDS,
        )
        return {where.partition: answer.result().offset for where, answer in answers.items()}
