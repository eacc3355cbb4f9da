"""How fast a consumer group works through a topic, whoever its members are.

By its committed offsets alone: an exactly-once pipeline has done what it has committed.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from loadtest.bare_judge import BUNDLE
from loadtest.contenders import ONE_THREAD
from loadtest.environments import environment_for
from sentinel.errors import SentinelError

QUIX_PROCESSES = 2
"""One a core."""

LOOK_SECONDS = 0.25


class StreamStalled(SentinelError):
    """A group that should work does not; says how far it came."""


@dataclass(frozen=True, slots=True)
class Drained:
    """A group's work on what a topic held: ``records`` between the first and the last commit that
    were seen, in ``seconds``."""

    records: int
    seconds: float

    @property
    def transactions_per_s(self) -> float:
        return self.records / self.seconds


class GroupEye:
    """Looks at the committed offsets of one group in one topic."""

    def __init__(self, brokers: str, topic: str, group: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": group})
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._partitions = [TopicPartition(topic, partition) for partition in partitions]

    def total(self) -> int:
        """How many records the topic holds."""
        bounds = [self._consumer.get_watermark_offsets(one, 30) for one in self._partitions]
        return sum(high - low for low, high in bounds)

    def done(self) -> int:
        """How many of them the group has done."""
        try:
            found = self._consumer.committed(self._partitions, 30)
        except KafkaException:  # who keeps its offsets is not known yet
            return 0
        return sum(max(one.offset, 0) for one in found)

    def close(self) -> None:
        """Lets go of the brokers."""
        self._consumer.close()

    def drained(self, alive: Callable[[], bool], patience: float = 120.0) -> Drained:
        """Waits until the group has done all there is now.

        :raises StreamStalled: it ended, or has done nothing for so long.
        """
        total, first, last = self.total(), None, (0, time.monotonic())
        while True:
            done, now = self.done(), time.monotonic()
            if done > last[0]:
                last = (done, now)
                first = first or last
            if first is not None and done >= total:
                if last == first:
                    raise StreamStalled(f"all {total:,} records were one commit: too few to time")
                return Drained(last[0] - first[0], last[1] - first[1])
            if not alive() or now - last[1] > patience:
                raise StreamStalled(f"{done:,} of {total:,} records were done, and then nothing")
            time.sleep(LOOK_SECONDS)


def quixstreams_commands(brokers: str, source: str, target: str, group: str) -> Sequence[list[str]]:
    """What starts the processes of a Quix Streams pipeline that share the work.

    :raises NotMeasurable: its environment cannot be made.
    """
    python = environment_for("quixstreams")
    command = [str(python), "-m", "loadtest.rivals.quixstreams_app"]
    return [[*command, brokers, source, target, group]] * QUIX_PROCESSES


def quixstreams_drains(brokers: str, source: str, target: str, bundle: str, log: Path) -> Drained:
    """A topic of ``creditcard`` transactions judged by Quix Streams into another topic, which is
    there; the processes' words go to ``log``.

    :raises NotMeasurable: its environment cannot be made.
    :raises StreamStalled: it did not do it.
    """
    group = f"quixstreams-{target}"
    environment = {**os.environ, BUNDLE: bundle, **ONE_THREAD}
    eye = GroupEye(brokers, source, group)
    started: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as words:
            for command in quixstreams_commands(brokers, source, target, group):
                started.append(
                    subprocess.Popen(command, env=environment, stdout=words, stderr=words)
                )
        return eye.drained(lambda: all(each.poll() is None for each in started))
    finally:
        for each in started:
            each.kill()
            each.wait()
        eye.close()
