"""The application in this process, as a worker asks it, and a worker: no Ray."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka_ingest.connection import Connection
from kafka_ingest.meter import Meter
from kafka_ingest.scorer import TransactionScorer
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames
from kafka_ingest.worker import Worker
from sentinel.bundle import open_bundle
from sentinel.load_report import LoadReport
from sentinel.profile_store import MemoryStore
from sentinel.stream_exchange import Contract, Labelled, OtherContract, Scored, TryLater
from serve_app.args import RouterSettings
from serve_app.flights import Flights
from serve_app.future import FutureCheck
from serve_app.judging import Judging
from serve_app.metrics import RouterMetrics
from serve_app.served import served_bundle
from serve_app.streaming import StreamDesk
from tests.app.conftest import GatedLanes, MemoryProfiles
from tests.kafka.brokers import Brokers


class LocalApp:
    """Answers as a router does; ``meddle`` may answer in its place, or fail."""

    def __init__(self, bundle: str) -> None:
        opened = open_bundle(bundle)
        served, metrics, future = served_bundle(opened), RouterMetrics(), FutureCheck(300)
        self.lanes = GatedLanes(opened)
        self.profiles = MemoryProfiles(MemoryStore())
        judging = Judging(self.lanes, self.profiles, metrics)
        limits = RouterSettings().queue_limits()
        flights = Flights(judging, limits, metrics, future, LoadReport(1.0))
        self.desk = StreamDesk(flights, metrics, future, lambda: served)
        self.meddle: Callable[[bytes], Awaitable[Any]] | None = None

    async def contract(self) -> Contract | TryLater:
        return self.desk.contract()

    async def score(
        self, topic: str, schema: str, columns: bytes
    ) -> Scored | TryLater | OtherContract:
        if self.meddle is not None and (told := await self.meddle(columns)) is not None:
            return told
        return await self.desk.score(topic, schema, columns)

    async def label(self, records: Sequence[bytes]) -> Labelled | TryLater:
        return await self.desk.label(records, self.profiles.label)


@dataclass
class Stream:
    """Topics and a group of a test's own, and workers on them."""

    brokers: Brokers
    names: TopicNames
    app: Any
    settings: WorkerSettings
    meters: list[Meter] = field(default_factory=list)

    def worker(self, slot: int = 0, **changes: Any) -> Worker[Any]:
        meter = Meter()
        self.meters.append(meter)
        settings = self.settings.model_copy(update=changes)
        work = TransactionScorer(self.app, self.names.input, settings.whole_s, meter)
        return Worker(
            Connection(self.brokers.client),
            self.names,
            settings,
            work,
            meter,
            topic=self.names.input,
            transactional_id=f"{settings.group}-{slot}",
        )

    @asynccontextmanager
    async def working(self, slot: int = 0, **changes: Any) -> Any:
        """A worker that is stopped in good order at the end."""
        worker = self.worker(slot, **changes)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await running

    def done(self) -> bool:
        """Whether the group has committed all there is."""
        ends = self.brokers.ends(self.names.input)
        committed = self.brokers.committed(self.settings.group, self.names.input)
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())

    async def until_done(self, patience: float = 120) -> None:
        async with asyncio.timeout(patience):
            while not await asyncio.to_thread(self.done):
                await asyncio.sleep(0.2)


def names_of(prefix: str) -> TopicNames:
    """Topics of this prefix."""
    return TopicNames(
        input=f"{prefix}.in",
        output=f"{prefix}.out",
        alerts=f"{prefix}.alerts",
        dead_letters=f"{prefix}.dead",
        labels=f"{prefix}.labels",
    )


def stream(brokers: Brokers, prefix: str, app: Any, partitions: int = 3, **changes: Any) -> Stream:
    """Topics of this prefix, made now."""
    names = names_of(prefix)
    for topic in (names.input, names.output, names.alerts):
        brokers.create(topic, partitions)
    for topic in (names.dead_letters, names.labels):
        brokers.create(topic)
    return Stream(brokers, names, app, WorkerSettings(group=prefix, **changes))
