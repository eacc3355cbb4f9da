"""Real Kafka brokers for the tests, started and stopped by the commands beside the checkout."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from kafka_ingest.connection import patiently

ROOT = Path(__file__).resolve().parents[2]
SERVICES = Path(os.environ.get("SENTINEL_SERVICES_DIR") or ROOT.parent / "shared" / "services")


@dataclass(frozen=True)
class Record:
    """One record as it lies in a topic; ``at_ms`` is its timestamp."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int
    headers: dict[str, bytes] = field(default_factory=dict)


class Brokers:
    """One broker or three of our own on 127.0.0.1; data live below ``folder``."""

    def __init__(self, folder: Path, count: int = 1, *, secure: bool = False) -> None:
        self.folder = folder
        self.count = count
        self._secure = secure
        self.bootstrap = ""

    def start(self) -> "Brokers":
        """Starts every broker that is not running, and waits until all answer."""
        secure = ["--secure"] if self._secure else []
        line = self._run("up", "--brokers", str(self.count), *secure)
        self.bootstrap = line.strip().removeprefix("KAFKA_BOOTSTRAP=")
        return self

    def kill(self, broker: int | None = None) -> None:
        """SIGKILL to one broker, or to all; ``start`` brings them back with their data."""
        self._run("down", "--kill", *self._only(broker))

    def stop(self, broker: int | None = None) -> None:
        """An orderly end of one broker, or of all; ``start`` brings them back."""
        self._run("down", *self._only(broker))

    def pause(self, broker: int = 1) -> None:
        """Connections stay, and the broker answers nothing."""
        os.kill(self._pid(broker), signal.SIGSTOP)

    def resume(self, broker: int = 1) -> None:
        os.kill(self._pid(broker), signal.SIGCONT)

    def end(self) -> None:
        """Kills what still runs; the folder is of no use after."""
        self._run("down", "--kill", "--wipe")

    @property
    def properties_file(self) -> Path:
        """What a client needs to get in, in librdkafka's words."""
        return self.folder / "client.properties"

    @property
    def client(self) -> dict[str, str]:
        """The same as a config."""
        lines = self.properties_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def create(
        self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """A new topic; returns its name."""
        new = NewTopic(topic, partitions, config=dict(config or {}))
        admin = AdminClient(self.client)  # its answers come only while it lives
        for made in admin.create_topics([new]).values():
            made.result(30)
        return topic

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions; none for a topic that is not there."""
        found = AdminClient(self.client).list_topics(timeout=30).topics
        return sorted(found[topic].partitions) if topic in found else []

    def send(
        self,
        topic: str,
        values: list[bytes | None],
        keys: list[bytes] | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        """Values into a topic, in their order within a key; all acknowledged on return."""
        producer = Producer({**self.client, "enable.idempotence": True, "linger.ms": 5})
        failed: list[KafkaError] = []

        def reported(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        for at, value in enumerate(values):
            while True:
                try:
                    producer.produce(
                        topic,
                        value,
                        key=keys[at] if keys else None,
                        headers=dict(headers or {}),
                        on_delivery=reported,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0, f"{topic}: not everything was acknowledged"
        assert not failed, failed[:3]

    def ends(self, topic: str, *, committed: bool = True) -> dict[int, int]:
        """The offset after the last record of each partition; ``committed``: only of transactions
        that have ended."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in self.partitions(topic)}
        admin = AdminClient(self.client)
        deadline = time.monotonic() + 60
        while True:
            found = admin.list_offsets(asked, isolation_level=level)
            try:
                return {where.partition: got.result(30).offset for where, got in found.items()}
            except KafkaException:  # its leader is being chosen, as after a start or a kill
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def read(self, topic: str, settle_s: float = 90.0) -> list[Record]:
        """Every record of a topic that a ``read_committed`` consumer sees, by partition and
        offset; waits until no transaction in it is open."""
        deadline = time.monotonic() + settle_s
        while self.ends(topic) != self.ends(topic, committed=False):
            assert time.monotonic() < deadline, f"{topic}: a transaction stays open"
            time.sleep(0.2)
        return self.peek(topic)

    def peek(self, topic: str) -> list[Record]:
        """As :meth:`read`, up to the first transaction that is still open."""
        consumer = Consumer(
            {
                **self.client,
                "group.id": "tests.reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        left = set(self.partitions(topic))
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in left])
        records, deadline = [], time.monotonic() + 120
        while left:
            assert time.monotonic() < deadline, f"{topic}: partitions {left} did not end"
            for message in consumer.consume(10_000, timeout=0.2):
                error = message.error()
                if error is None:
                    records.append(_record(message))
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition())
        consumer.close()
        return sorted(records, key=lambda one: (one.partition, one.offset))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offsets a group has committed; a partition without one is left out."""
        consumer = Consumer({**self.client, "group.id": group})
        asked = [TopicPartition(topic, p) for p in self.partitions(topic)]
        # Just started, a broker does not know yet whose offsets it keeps.
        found = patiently(lambda: consumer.committed(asked, timeout=30))
        consumer.close()
        return {one.partition: one.offset for one in found if one.offset >= 0}

    @staticmethod
    def _only(broker: int | None) -> list[str]:
        return [] if broker is None else ["--broker", str(broker)]

    def _pid(self, broker: int) -> int:
        return int((self.folder / f"broker-{broker}.pid").read_text().split()[0])

    def _run(self, command: str, *options: str) -> str:
        program = SERVICES / "kafka" / command
        assert program.exists(), (
            f"no {program}: these tests start real brokers by it; "
            "SENTINEL_SERVICES_DIR says where it is"
        )
        done = subprocess.run(
            [str(program), "--dir", str(self.folder), *options],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


def _record(message: Message) -> Record:
    headers = {name: value or b"" for name, value in message.headers() or []}
    return Record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.timestamp()[1],
        headers,
    )
