"""``sentinel load``: what a running service withstands."""

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loadtest.shapes import Shape
from sentinel.console import note, print_json, table


class Send(StrEnum):
    """What each request of a load test holds."""

    SINGLE = "single"
    JSON = "json"
    ARROW = "arrow"
    MIXED = "mixed"


def load(
    url: Annotated[str, typer.Option(help="Where the service answers.")] = "http://127.0.0.1:8000",
    users: Annotated[
        int, typer.Option(min=1, help="Each sends its next request when the last is answered.")
    ] = 32,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds to measure.")] = 30,
    kind: Annotated[
        Send,
        typer.Option(help="One transaction a request, batches, or all three."),
    ] = Send.SINGLE,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Rows of a batch.")] = 1000,
    pause: Annotated[
        float, typer.Option(min=0, help="Seconds a user waits before it sends again, on average.")
    ] = 0,
    shape: Annotated[
        Shape, typer.Option(help="How many of the users are there in the course of it.")
    ] = Shape.STEADY,
    spawn_rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Users that start in a second.", show_default="all at once"),
    ] = None,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds of load before anything is counted.")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 10,
    p95: Annotated[
        float, typer.Option(min=0, help="Objective: 95% of answers within so many ms.")
    ] = 50,
    max_failed: Annotated[
        int, typer.Option(min=0, help="Objective: at most so many requests fail.")
    ] = 0,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="SENTINEL_API_KEY",
            help="For services with keys; its scopes must be score and read.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where Locust's HTML report goes.")
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where each second's figures go, one JSON object a line."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same amounts and keys.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Put load on a running service and hold its answers to an objective.

    Sends made-up transactions of the dataset that the service serves, by Locust, and checks every
    answer. Each user waits for its answer before it sends again. Exit code 0: objective met; 1: not
    met, or nobody answers. Ctrl-C ends the test early.

    Example: sentinel load --users 64 --duration 60 --shape spike --p95 50
    """
    from loadtest.service import Address, read_service

    for option, file in {"--html": html, "--timeline": timeline}.items():
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            problem = f"{file} is a folder" if file.is_dir() else f"no folder {file.parent}"
            raise typer.BadParameter(problem, param_hint=option)
    measures = {"--duration": duration, "--warm-up": warm_up, "--timeout": timeout, "--p95": p95}
    measures["--pause"] = pause
    for name, value in {**measures, "--spawn-rate": spawn_rate or 0}.items():
        if not math.isfinite(value):
            raise typer.BadParameter(f"{value} is no finite number", param_hint=name)
    service = read_service(Address.of(url, api_key))
    # Locust would patch the standard library of this process when it is imported; all that waits
    # here waits by gevent's own sockets and sleeps.
    os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")
    from loadtest.load import Load
    from loadtest.run import run_load
    from loadtest.timeline import Timeline
    from loadtest.verdict import LiveTable, Objective, Verdict

    plan = Load(users, duration, kind.value, rows, seed, spawn_rate, warm_up, timeout, pause, shape)
    course = "" if shape is Shape.STEADY else f", {shape}"
    note(
        f"{service.address.url}: model version {service.model_version[:12]}, dataset "
        f"{service.description.name}; {users} users, {kind}, {duration:g} s{course}"
    )
    with LiveTable() as live, Timeline(plan, timeline, live) as watch:
        run = run_load(service, plan, watch, report=html is not None)
    verdict = Verdict.of(service, plan, run, Objective(p95_ms=p95, max_failed=max_failed))
    for line in verdict.advice():
        note(line)
    for what, number, detail in verdict.problems():
        note(f"{number:,} x {what}" + (f": {detail}" if detail else ""))
    if json:
        print_json(verdict.as_dict())
    else:
        columns, figures = verdict.as_table()
        table(f"Load, {run.seconds:.1f} s", figures, columns)
        typer.echo(verdict.in_words())
    if html is not None and run.report is not None:
        _write(html, run.report)
    if not verdict.met:
        raise typer.Exit(1)


def _write(file: Path, text: str) -> None:
    from sentinel.errors import SentinelError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SentinelError(f"{file}: cannot be written: {error.strerror or error}") from error
    note(f"written: {file}")
