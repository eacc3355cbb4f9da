"""The stream without a server: what ``sentinel ingest --demo`` shows.

Kafka is librdkafka's mock cluster, which lives in this process and forgets all at its end; the
application is a bundle in this process. In between is the worker that ``ingest`` runs, unchanged.
The mock takes part in transactions but keeps no offsets of theirs, and shows what was aborted: how
the stream lives through a crash can be seen on a real broker alone.
"""

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Consumer, Producer

from kafka_ingest.bundle_app import BundleApp
from kafka_ingest.connection import Connection
from kafka_ingest.meter import Meter
from kafka_ingest.producing import Sender, at_rate, made_up_rows
from kafka_ingest.scorer import TransactionScorer
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames
from kafka_ingest.worker import Worker
from sentinel.answers import Answer
from sentinel.bundle import Bundle
from sentinel.dataset import DatasetDescription

NAMES = TopicNames()
SHOWN = 12
"""Decisions on the screen at once."""

_BAD = b'{"transaction_id": "not-a-payment"}'


@contextlib.contextmanager
def mock_cluster(topics: Sequence[str]) -> Iterator[Connection]:
    """A Kafka cluster in this process, with these topics, for as long as the block runs."""
    asked = Connection({"bootstrap.servers": "mock"})  # there is no such host: it is replaced
    cluster: Producer = asked.open(Producer, {"test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    connection = Connection({"bootstrap.servers": f"{broker.host}:{broker.port}"})
    for topic in topics:
        cluster.list_topics(topic, timeout=10)  # asking for a topic makes it there
    yield connection


@dataclass(slots=True)
class Seen:
    """What has come out of the stream so far."""

    decisions: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    last: deque[Answer] = field(default_factory=lambda: deque(maxlen=SHOWN))
    reason: str = ""
    """Why the last dead letter is one."""

    @property
    def total(self) -> int:
        return sum(self.decisions.values()) + self.dead_letters


class Watcher:
    """Reads what the stream wrote, as any consumer would."""

    def __init__(self, connection: Connection) -> None:
        config = {"group.id": "demo.watcher", "auto.offset.reset": "earliest"}
        self._consumer: Consumer = connection.open(Consumer, config)
        self._consumer.subscribe([NAMES.output, NAMES.dead_letters])
        self.seen = Seen()

    def look(self, seconds: float) -> Seen:
        """Waits so long for more; all there was until now."""
        for message in self._consumer.consume(5_000, seconds):
            if message.error() is not None:
                continue
            if message.topic() == NAMES.dead_letters:
                self.seen.dead_letters += 1
                reason = dict(message.headers() or [])["reason"]
                self.seen.reason = reason.decode() if isinstance(reason, bytes) else ""
                continue
            answer = msgspec.json.decode(message.value() or b"", type=Answer)
            self.seen.decisions[answer.decision] += 1
            self.seen.last.append(answer)
        return self.seen

    def close(self) -> None:
        self._consumer.close()


class Payments(threading.Thread):
    """Sends made-up transactions at a rate, and a few records that are none."""

    def __init__(
        self, connection: Connection, description: DatasetDescription, count: int, rate: float
    ) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self._sender = Sender(connection, NAMES.input, description, self.stop)
        self._rows = made_up_rows(description, None, rate)
        self._bad: Producer = connection.open(Producer)
        self._count, self._rate, self._every = count, rate, max(1, count // 5)
        self.sent = self._bad_sent = 0

    def run(self) -> None:
        self._sender.send(self._rows.batches, at_rate(self._rate), self._count, self._note)
        self._bad.flush(10)

    def _note(self, sent: int) -> None:
        while sent // self._every > self._bad_sent:
            self._bad.produce(NAMES.input, _BAD)
            self._bad_sent += 1
        self.sent = sent + self._bad_sent


class StreamWorker(threading.Thread):
    """The worker of ``sentinel ingest``, with the bundle in this process as its application."""

    def __init__(self, connection: Connection, bundle: Bundle) -> None:
        super().__init__(daemon=True)
        settings = WorkerSettings(group="demo", protocol="classic")
        self.meter = Meter()
        app = BundleApp(bundle)
        work = TransactionScorer(app, NAMES.input, settings.whole_s, self.meter)
        self._worker = Worker(
            *(connection, NAMES, settings, work, self.meter),
            topic=NAMES.input,
            transactional_id="demo-0",
        )
        self._loop = asyncio.new_event_loop()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._worker.run())
        except BaseException as error:
            self.error = error
        finally:
            self._loop.close()

    def stop(self) -> None:
        """What is under way is committed before the thread ends."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._worker.stop)
        self.join(30)
