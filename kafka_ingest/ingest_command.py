"""``sentinel ingest``."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel.console import note, print_json, progress
from sentinel.errors import UsageError

if TYPE_CHECKING:
    from kafka_ingest.actor import Job
    from kafka_ingest.backlog import Look
    from kafka_ingest.pool import PoolSize, Result


def ingest(
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,…", help="Kafka brokers to ask first."),
    ] = None,
    source: Annotated[
        str, typer.Option("--input", metavar="TOPIC", help="Topic of transactions.")
    ] = "transactions",
    output: Annotated[str, typer.Option(metavar="TOPIC", help="Topic of decisions.")] = "decisions",
    alerts: Annotated[
        str, typer.Option(metavar="TOPIC", help="Topic of reviews and blocks.")
    ] = "alerts",
    dead_letters: Annotated[
        str, typer.Option(metavar="TOPIC", help="Topic of records that cannot be scored.")
    ] = "transactions.dead",
    labels: Annotated[str, typer.Option(metavar="TOPIC", help="Topic of labels.")] = "labels",
    group: Annotated[str, typer.Option(help="Consumer group.")] = "sentinel",
    workers: Annotated[
        str, typer.Option(metavar="MIN:MAX", help="Workers, as many as the lag wants.")
    ] = "1:2",
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings of librdkafka, name=value a line."),
    ] = None,
    classic: Annotated[
        bool,
        typer.Option("--classic", help="Brokers older than Kafka 4: the classic group protocol."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join.", show_default="the one on this machine"),
    ] = None,
    application: Annotated[
        str, typer.Option(metavar="NAME", help="Serve application that scores.")
    ] = "sentinel",
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End when all there is now is done.")
    ] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Ten seconds of it without a server, with --bundle."),
    ] = False,
    bundle: Annotated[
        str | None, typer.Option(metavar="URI", help="Of --demo: what scores in this process.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Score a topic by the running application, each record exactly once.

    Joins the Ray cluster that the application runs on; missing topics are created, a new group
    starts at the earliest offset. Killed at any moment, the same command goes on.

    Example: sentinel ingest --bootstrap-servers localhost:9092 --until-caught-up --json
    """
    if demo or bundle is not None:
        _demo(demo, bundle, json)
        return
    from kafka_ingest.connection import Connection
    from kafka_ingest.joined_ray import joined_ray
    from kafka_ingest.settings import WorkerSettings
    from kafka_ingest.topics import NewTopics, TopicNames, ensure_topics, plans

    size = _bounds(workers)
    connection = Connection.of(bootstrap_servers, config)
    names = TopicNames(
        input=source, output=output, alerts=alerts, dead_letters=dead_letters, labels=labels
    )
    settings = WorkerSettings(group=group, protocol="classic" if classic else "consumer")
    logging.getLogger("sentinel.kafka").setLevel(logging.WARNING)
    if made := ensure_topics(connection, plans(names, NewTopics())):
        note("created: " + ", ".join(made))
    with joined_ray(address, application):
        from kafka_ingest.actor import Job
        from kafka_ingest.meter import DEGRADED, SHED
        from kafka_ingest.pool import PoolSize

        result = _run(
            Job(connection, names, settings, application), PoolSize(*size), until_caught_up
        )
    found = {
        "records": result.counts.records,
        "decisions": result.counts.decisions,
        "dead_letters": result.counts.dead_letters,
        "seconds": round(result.seconds, 3),
        "restarts": result.restarts,
        "batches": result.done.batches,
        "commits": result.done.commits,
        "aborts": result.done.aborts,
        "waits_for_room": result.done.waits[SHED],
        "waits_for_missing": result.done.waits[DEGRADED],
    }
    if json:
        print_json(found)
    else:
        note(", ".join(f"{name}: {value:,}" for name, value in found.items()))


def _demo(asked: bool, bundle: str | None, json: bool) -> None:
    if not asked or bundle is None:
        raise UsageError("--demo and --bundle URI go together; without them a running application")
    from kafka_ingest.demo_command import demo

    found = demo(bundle)
    if json:
        print_json(found)
    else:
        note(", ".join(f"{name}: {value:,}" for name, value in found.items()))


def _bounds(workers: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?::(\d+))?", workers)
    lowest, highest = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= lowest <= highest:
        raise UsageError(f"--workers is {workers!r}; expected MIN:MAX with 1 <= MIN <= MAX")
    return lowest, highest


def _run(job: "Job", size: "PoolSize", until_caught_up: bool) -> "Result":
    import asyncio
    import signal

    from kafka_ingest.backlog import BacklogEye
    from kafka_ingest.pool import Pool

    eye = BacklogEye(job.connection, job.topics.input, job.settings.group)

    async def supervise() -> "Result":
        loop = asyncio.get_running_loop()
        with progress("starting workers") as step:

            def shown(look: "Look", running: int) -> None:
                done = f"{look.counts.records:,} records done, {look.lag:,} behind"
                step(f"{done}, {running} workers")

            pool = Pool(job, size, eye, shown)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, pool.stop)
            return await pool.run(until_caught_up)

    return asyncio.run(supervise())
