"""``sentinel produce``."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel.console import OnStep, note, print_json, progress
from sentinel.errors import SentinelError, UsageError

if TYPE_CHECKING:
    from kafka_ingest.producing import Due, Rows
    from sentinel.dataset import DatasetDescription
    from sentinel.input_files import Piece


class Stopped(SentinelError):
    """Told to stop before everything was sent; says how far it came."""


def produce(
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,…", help="Kafka brokers to ask first."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Parquet or CSV file, folder or glob; may be given again."
        ),
    ] = None,
    generated: Annotated[
        bool,
        typer.Option(
            "--generated", help="Made-up transactions of this moment, until --limit or stopped."
        ),
    ] = False,
    dataset: Annotated[
        str, typer.Option(metavar="NAME-or-FILE", help="Description of what is sent.")
    ] = "transactions",
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="So many a second; else as fast as can be.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(metavar="X", help="By the rows' own times, X times as fast as they passed."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="No more than so many.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of what is made up; else new ones every time.")
    ] = None,
    topic: Annotated[str, typer.Option(help="Where to; made if it is missing.")] = "transactions",
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings of librdkafka, name=value a line."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Send transactions to Kafka: the rows of files, or made-up ones.

    A record is the JSON of one transaction, as /predict takes it, under its customer's key; each
    is written once. Stopped, it waits for what was sent and says how many that were.

    Example: sentinel produce --bootstrap-servers localhost:9092 --data july.parquet --speed 60
    """
    from sentinel.dataset import load_description

    _check(data, generated, rate, speed)
    description = load_description(dataset)
    pieces = None if data is None else _pieces(data, description)
    due = _due(description, rate, speed)
    result = _run(bootstrap_servers, config, topic, description, pieces, due, limit, seed, rate)
    if json:
        print_json(result)
        return
    note(
        f"{result['records']:,} records sent to {topic!r} in {result['seconds']:,.1f} s, "
        f"{result['records_per_s']:,.0f} a second"
    )


def _check(
    data: list[str] | None, generated: bool, rate: float | None, speed: float | None
) -> None:
    """:raises UsageError: these options do not go together."""
    if generated == bool(data):
        raise UsageError("expected --data FILE, or --generated, and not both")
    if rate is not None and speed is not None:
        raise UsageError("--rate and --speed are two paces; expected one of them")
    for name, value in (("--rate", rate), ("--speed", speed)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} is {value:g}; expected a number above 0")
    if speed is not None and generated:
        raise UsageError("--speed goes by the rows' own times; with --generated expected --rate")


def _pieces(data: list[str], description: "DatasetDescription") -> "list[Piece]":
    from sentinel.input_files import check_files, find_files

    return check_files(find_files(data), description)


def _due(description: "DatasetDescription", rate: float | None, speed: float | None) -> "Due":
    from kafka_ingest.producing import AtSpeed, at_once, at_rate
    from sentinel.dataset import ROW_ORDER

    if speed is not None:
        if description.time == ROW_ORDER:
            raise UsageError(
                f"--speed: rows of dataset {description.name!r} have no time; expected --rate"
            )
        return AtSpeed(speed)
    return at_once if rate is None else at_rate(rate)


def _run(
    bootstrap_servers: str | None,
    config: Path | None,
    topic: str,
    description: "DatasetDescription",
    pieces: "list[Piece] | None",
    due: "Due",
    limit: int | None,
    seed: int | None,
    rate: float | None,
) -> dict[str, Any]:
    from kafka_ingest.connection import Connection
    from kafka_ingest.producing import Sender, made_up_rows, rows_of_files
    from kafka_ingest.stopping import stop_on_signals
    from kafka_ingest.topics import NewTopics, ensure_topics, input_plan

    connection = Connection.of(bootstrap_servers, config)
    if made := ensure_topics(connection, [input_plan(topic, NewTopics())]):
        note(f"topic {made[0]!r} was not there; it was made")
    rows = (
        made_up_rows(description, seed, rate)
        if pieces is None
        else rows_of_files(pieces, description)
    )
    total = limit if pieces is None else _total(pieces, limit)
    with stop_on_signals() as stop, progress(f"sending to {topic}", total) as step:
        sender = Sender(connection, topic, description, stop)
        sent = sender.send(rows.batches, due, limit, _Shown(step, total))
    _tell_of_refused(rows)
    if not sent.complete and (pieces is not None or limit is not None):
        raise Stopped(f"stopped; {sent.records:,} records were sent to {topic!r} and acknowledged")
    return {
        "topic": topic,
        "records": sent.records,
        "refused": rows.refused,
        "seconds": round(sent.seconds, 3),
        "records_per_s": round(sent.records / max(sent.seconds, 1e-9), 1),
    }


def _total(pieces: "list[Piece]", limit: int | None) -> int | None:
    """How many there are to send, where that is known."""
    counts = [piece.rows for piece in pieces]
    if any(count is None for count in counts):
        return limit
    total = sum(count or 0 for count in counts)
    return total if limit is None else min(total, limit)


def _tell_of_refused(rows: "Rows") -> None:
    if rows.refused:
        note(f"{rows.refused:,} rows were not sent, for they are no transactions of this dataset")
        note(f"the first: {rows.first_error}")


class _Shown:
    """Progress for a person: how many of how many, and how fast, four times a second."""

    def __init__(self, step: OnStep, total: int | None) -> None:
        self._step: Callable[..., None] = step
        self._of = "" if total is None else f" of {total:,}"
        self._start = self._last = time.monotonic()

    def __call__(self, sent: int) -> None:
        now = time.monotonic()
        if now - self._last > 0.25:
            self._last = now
            rate = sent / (now - self._start)
            self._step(f"{sent:,}{self._of} records, {rate:,.0f} a second", sent)
