"""A worker as a Ray actor, and what is known of it outside."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka_ingest.connection import Connection
from kafka_ingest.handle_app import HandleApp
from kafka_ingest.labels import LabelWork
from kafka_ingest.metrics import WorkerMetrics
from kafka_ingest.outgoing import Counts
from kafka_ingest.scorer import TransactionScorer
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames
from kafka_ingest.worker import Worker
from sentinel.pool_size import Progress

LABELS = "labels"
"""The slot of the worker that reads labels; the others are numbers."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a pool's workers do."""

    connection: Connection
    topics: TopicNames
    settings: WorkerSettings
    application: str


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker says of itself."""

    progress: Progress
    counts: Counts
    commits: int
    aborts: int
    waits: Mapping[str, int]
    """How often a batch had to wait, by why (``meter.SHED``, ``meter.DEGRADED``)."""


class WorkerActor:
    """One slot's worker. Ends with whoever made it."""

    def __init__(self, job: Job, slot: str, static: bool) -> None:
        """``static``: its place in the group outlives it for as long as a session may be silent."""
        meter = WorkerMetrics(slot)
        app = HandleApp(job.application)
        settings, topic = job.settings, job.topics.input
        work: Any = TransactionScorer(app, topic, settings.whole_s, meter)
        if slot == LABELS:
            topic, work = job.topics.labels, LabelWork(app, meter)
            settings = settings.model_copy(update={"group": f"{settings.group}.{LABELS}"})
        self._meter = meter
        self._worker: Worker[Any] = Worker(
            job.connection,
            job.topics,
            settings,
            work,
            meter,
            topic=topic,
            transactional_id=f"{settings.group}-{slot}",
            instance=f"{settings.group}-{slot}" if static else None,
        )

    async def run(self) -> None:
        """Works until told to stop.

        :raises SentinelError: it cannot go on.
        """
        await self._worker.run()

    async def stop(self) -> None:
        """What is under way is committed, then ``run`` returns."""
        self._worker.stop()

    async def state(self) -> WorkerState:
        """What it has done so far."""
        meter = self._meter
        progress = Progress(time.monotonic(), meter.busy, meter.batches, meter.rows)
        return WorkerState(progress, meter.counts, meter.commits, meter.aborts, dict(meter.waited))
