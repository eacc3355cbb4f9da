"""``sentinel replay``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel.console import Pace, note, print_json, progress
from sentinel.errors import SentinelError

if TYPE_CHECKING:
    from kafka_ingest.connection import Connection
    from kafka_ingest.replaying import Job
    from sentinel.bundle import Bundle


class Stopped(SentinelError):
    """Told to stop; says how to go on."""


def replay(
    bundle: Annotated[str, typer.Option(metavar="URI", help="Path or URI of the bundle.")],
    output: Annotated[str, typer.Option(metavar="TOPIC", help="Where the decisions go.")],
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,…", help="Kafka brokers to ask first."),
    ] = None,
    source: Annotated[
        str, typer.Option("--input", metavar="TOPIC", help="Topic of transactions.")
    ] = "transactions",
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="Time (of the records), offset, or PARTITION:OFFSET,…; the first that is there.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE", help="The first that is not meant; the end, as it is at the start."
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Records scored and committed together.")
    ] = 16_384,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings of librdkafka, name=value a line."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Score a range of a topic again under another bundle, into another topic.

    Needs no application: models and profiles are in this process, and nothing that is served
    changes. Killed at any moment, the same command goes on, and writes no decision twice.

    Example: sentinel replay --bootstrap-servers localhost:9092 --from 2018-08-01
    --bundle bundles/next --output decisions.next
    """
    from kafka_ingest.connection import Connection
    from kafka_ingest.offset_range import read_bound
    from kafka_ingest.replaying import Job
    from sentinel.bundle import open_bundle

    job = Job(
        source,
        output,
        None if since is None else read_bound("--from", since),
        None if until is None else read_bound("--until", until),
    )
    result = _run(Connection.of(bootstrap_servers, config), job, open_bundle(bundle), batch)
    if json:
        print_json(result)


def _run(connection: "Connection", job: "Job", bundle: "Bundle", batch: int) -> dict[str, Any]:
    from kafka_ingest.replaying import Replay
    from kafka_ingest.stopping import stop_on_signals
    from kafka_ingest.topics import NewTopics, ensure_topics, output_plan

    start = time.monotonic()
    with stop_on_signals() as stop:
        with progress("loading the bundle, asking the brokers"):
            run = Replay(connection, job, bundle, stop, batch)
            found = run.progress()
            ensure_topics(connection, [output_plan(job.output, NewTopics())])
        if found.complete:
            note(f"{job.output}: complete already; another --output begins anew")
        with progress(f"replaying {job.source}", total=found.size) as step:
            done = run.run(found, Pace(step, found.size, "records"))
    if not done.complete:
        raise Stopped(f"stopped; the same command goes on from what is in {job.output!r}")
    seconds = time.monotonic() - start
    counts = done.counts
    if done.profiles == "cold":
        note("profiles: cold. The bundle has none that end before the first of these records")
    note(
        f"{job.output}: {counts.decisions:,} decisions on {counts.records:,} records, "
        f"{counts.dead_letters:,} of them refused, in {seconds:,.1f} s"
    )
    return {
        "records": counts.records,
        "decisions": counts.decisions,
        "refused": counts.dead_letters,
        "offsets": found.size,
        "done_before": found.behind,
        "seconds": round(seconds, 3),
        "bundle": bundle.uri,
        "model_version": bundle.digest,
        "profiles": done.profiles,
        "output": job.output,
    }
