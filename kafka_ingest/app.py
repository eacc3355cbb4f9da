"""The pool as a Serve application, beside the one that scores: ``kafka_ingest.app:build``.

One deployment of one replica supervises the workers, so the same config, and the same change of it,
rolls both applications. docs/kafka.md shows the entry.

No ``from __future__ import annotations`` here: Serve converts ``args`` only where the annotation
of ``build`` is a class.
"""

import asyncio
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from kafka_ingest.actor import Job
from kafka_ingest.backlog import BacklogEye
from kafka_ingest.connection import Connection
from kafka_ingest.pool import Pool, PoolSize
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import NewTopics, TopicNames, ensure_topics, plans

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

SUPERVISOR = "IngestPool"
"""The deployment's name."""


class IngestArgs(BaseModel):
    """What ``args`` of the application may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str | None = Field(
        default=None, description="Kafka brokers to ask first; else in the file of settings"
    )
    config: str | None = Field(
        default=None, description="file of librdkafka's settings, on the node of each worker"
    )
    application: str = Field(
        default="sentinel", description="the application that scores, by its name in this config"
    )
    lowest: int = Field(default=1, ge=1, description="fewest workers")
    highest: int = Field(
        default=2, ge=1, description="most workers; there are never more than partitions"
    )
    topics: TopicNames = TopicNames()
    new_topics: NewTopics = NewTopics()
    worker: WorkerSettings = WorkerSettings()


class IngestPool:
    """Supervises the workers for as long as the replica lives. They end with it."""

    def __init__(self, args: IngestArgs) -> None:
        """:raises SentinelError: the brokers cannot be reached; Serve starts it again."""
        connection = Connection.of(
            args.bootstrap_servers, None if args.config is None else Path(args.config)
        )
        made = ensure_topics(connection, plans(args.topics, args.new_topics))
        if made:
            logger.warning("created topics: %s", ", ".join(made))
        eye = BacklogEye(connection, args.topics.input, args.worker.group)
        job = Job(connection, args.topics, args.worker, args.application)
        self._pool = Pool(job, PoolSize(args.lowest, args.highest), eye)
        self._running: asyncio.Task[object] | None = None

    async def reconfigure(self, _: object) -> None:
        """Serve calls it once the replica runs; what is configured are ``args``."""
        self._start()

    def _start(self) -> "asyncio.Task[object]":
        if self._running is None:
            self._running = asyncio.create_task(self._pool.run())
        return self._running

    async def check_health(self) -> None:
        """Serve asks again and again, and starts a new replica where it raises."""
        running = self._start()
        if running.done():
            running.result()

    async def __del__(self) -> None:
        """Serve awaits it when the replica is stopped in good order."""
        self._pool.stop()
        if self._running is not None:
            await asyncio.wait([self._running])


def build(args: IngestArgs) -> Application:
    """The application."""
    return serve.deployment(
        name=SUPERVISOR,
        num_replicas=1,
        user_config={},
        graceful_shutdown_timeout_s=60,
        ray_actor_options={"num_cpus": 0.1},
    )(IngestPool).bind(args)
