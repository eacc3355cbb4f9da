"""Which records of a topic are meant: from when, or from where, until when or where."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition

from kafka_ingest.connection import KafkaFailed
from sentinel.errors import UsageError

_OFFSETS = re.compile(r"(\d+:\d+)(,\d+:\d+)*")
_PATIENCE = 30.0
_END = 2**62

Range = tuple[int, int]
"""The first offset, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A time (milliseconds since 1970, by the records' Kafka timestamps), one offset for every
    partition, or one for each."""

    option: str
    at_ms: int | None = None
    every: int | None = None
    each: Mapping[int, int] | None = None


def read_bound(option: str, text: str) -> Bound:
    """The bound that a person wrote.

    :raises UsageError: it is none.
    """
    if text.isdecimal():
        return Bound(option, every=int(text))
    if _OFFSETS.fullmatch(text):
        pairs = [part.split(":") for part in text.split(",")]
        return Bound(option, each={int(partition): int(offset) for partition, offset in pairs})
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}; expected a time such as 2018-08-01T10:00:00Z, an offset such "
            "as 1500, or an offset a partition such as 0:1500,1:1720"
        ) from error
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return Bound(option, at_ms=round(when.timestamp() * 1000))


def ranges_of(
    consumer: Consumer,
    topic: str,
    partitions: Sequence[int],
    since: Bound | None,
    until: Bound | None,
) -> dict[int, Range]:
    """The offsets of each partition, of those records alone that are there now; an empty range
    where there are none.

    :raises UsageError: a bound names a partition that there is not.
    :raises KafkaFailed: the brokers do not answer.
    """
    for bound in (since, until):
        for partition in (bound and bound.each) or ():
            if partition not in partitions:
                raise UsageError(
                    f"{bound.option if bound else ''}: topic {topic!r} has no partition "
                    f"{partition}; expected {partitions[0]} to {partitions[-1]}"
                )
    try:
        there = {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), _PATIENCE)
            for partition in partitions
        }
        first = _offsets(consumer, topic, since, {p: low for p, (low, _) in there.items()})
        last = _offsets(consumer, topic, until, {p: high for p, (_, high) in there.items()})
    except KafkaException as error:
        raise KafkaFailed(f"topic {topic!r}: {error.args[0].str()}") from error
    found = {}
    for partition, (low, high) in there.items():
        start = min(max(first[partition], low), high)
        found[partition] = (start, min(max(last[partition], start), high))
    return found


def _offsets(
    consumer: Consumer, topic: str, bound: Bound | None, otherwise: dict[int, int]
) -> dict[int, int]:
    """The offset that the bound means in each partition."""
    if bound is None:
        return otherwise
    if bound.every is not None:
        return dict.fromkeys(otherwise, bound.every)
    if bound.each is not None:
        return {**otherwise, **bound.each}
    assert bound.at_ms is not None
    asked = [TopicPartition(topic, partition, bound.at_ms) for partition in otherwise]
    found = consumer.offsets_for_times(asked, _PATIENCE)
    # Past the last record of a partition there is no such offset.
    return {one.partition: one.offset if one.offset >= 0 else _END for one in found}
