"""The records of several partitions in one order, by time: the same whenever they are read."""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kafka_ingest.connection import Connection, KafkaFailed
from kafka_ingest.offset_range import Range

READER = {
    "group.protocol": "classic",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "queued.max.messages.kbytes": 32_768,
}

AHEAD = 20_000
"""Records of a partition that wait here for those of others, before it is held up."""

SILENT_SECONDS = 60.0
"""The brokers are taken for gone after so long without anything."""


class MergedRecords:
    """Records by their Kafka timestamps, those of a partition in its own order: one that is older
    than the one before it counts as old as that. Of the same moment the lower partition's first.
    """

    def __init__(
        self, connection: Connection, topic: str, group: str, ranges: Mapping[int, Range]
    ) -> None:
        self.consumer: Consumer = connection.open(Consumer, {**READER, "group.id": group})
        self._topic = topic
        self._stop = {partition: stop for partition, (_, stop) in ranges.items()}
        self._open = {partition for partition, (start, stop) in ranges.items() if start < stop}
        self._waiting: dict[int, deque[Message]] = {p: deque() for p in self._open}
        self._paused: set[int] = set()
        self._last = dict.fromkeys(ranges, 0)
        starts = [TopicPartition(topic, p, ranges[p][0]) for p in sorted(self._open)]
        self.consumer.assign(starts)

    def batches(self, size: int) -> Iterator[list[Message]]:
        """All of them, at most ``size`` at once.

        :raises KafkaFailed: they cannot be read.
        """
        heads: list[tuple[int, int]] = []
        headless = set(self._open)
        batch: list[Message] = []
        while True:
            self._fetch_until_heads(headless, heads)
            if not heads:
                break
            _, partition = heapq.heappop(heads)
            batch.append(self._waiting[partition].popleft())
            self._head(partition, headless, heads)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _fetch_until_heads(self, headless: set[int], heads: list[tuple[int, int]]) -> None:
        """Until every partition has a first record, or ends."""
        silent = 0.0
        while headless:
            self._hold_up()
            messages = self.consumer.consume(10_000, 0.1)
            silent = 0.0 if messages else silent + 0.1
            if silent > SILENT_SECONDS:
                raise KafkaFailed(f"topic {self._topic!r}: nothing comes for {silent:.0f} s")
            for message in messages:
                self._take(message)
            for partition in list(headless):
                self._head(partition, headless, heads)

    def _head(self, partition: int, headless: set[int], heads: list[tuple[int, int]]) -> None:
        """Puts the first record of a partition among the heads, if there is one."""
        headless.discard(partition)
        waiting = self._waiting[partition]
        if waiting:
            at_ms = max(self._last[partition], waiting[0].timestamp()[1])
            self._last[partition] = at_ms
            heapq.heappush(heads, (at_ms, partition))
        elif partition in self._open:
            headless.add(partition)

    def _take(self, message: Message) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.retriable() or error.code() in _PASSING:
                return
            where = f"topic {self._topic!r}, partition {partition}"
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaFailed(
                    f"{where}: records of the range are no longer there: its retention goes by "
                    f"their timestamps ({error.str()})"
                )
            raise KafkaFailed(f"{where}: {error.str()}")
        if partition not in self._open:
            return
        if error is None and offset < self._stop[partition]:
            self._waiting[partition].append(message)
        # The last offsets of a range may hold no record: only what comes after them shows that.
        if offset + (error is None) >= self._stop[partition]:
            self._open.discard(partition)
            self._pause({partition})

    def _hold_up(self) -> None:
        """Nothing more is fetched of partitions that are far ahead."""
        ahead = {p for p in self._open if len(self._waiting[p]) > AHEAD}
        self._pause(ahead - self._paused)
        if behind := (self._paused & self._open) - ahead:
            self.consumer.resume([TopicPartition(self._topic, p) for p in behind])
            self._paused -= behind

    def _pause(self, partitions: set[int]) -> None:
        if partitions:
            self.consumer.pause([TopicPartition(self._topic, p) for p in partitions])
            self._paused |= partitions

    def close(self) -> None:
        """Lets go of the brokers."""
        try:
            self.consumer.close()
        except KafkaException as error:
            raise KafkaFailed(f"topic {self._topic!r}: {error.args[0].str()}") from error


_PASSING = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT)
