"""``sentinel ingest --demo`` on the screen."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kafka_ingest.connection import KafkaFailed
from kafka_ingest.demo import NAMES, Payments, Seen, StreamWorker, Watcher, mock_cluster
from kafka_ingest.stopping import stop_on_signals
from sentinel.answers import Answer
from sentinel.bundle import open_bundle
from sentinel.console import note, progress
from sentinel.profile_store import warm_up

COUNT, RATE = 10_000, 1_000.0
"""Transactions of a demo, and how many a second: ten seconds to look at."""

PATIENCE = 60.0
"""Longest time without a decision before the demo is taken to have failed, in seconds."""

_STYLES = {"approve": "green", "review": "yellow", "block": "red"}


def demo(bundle: str, count: int = COUNT, rate: float = RATE) -> dict[str, Any]:
    """Sends made-up transactions through a stream and shows what comes out; the summary.

    :raises BundleError: the bundle cannot be used.
    :raises SentinelError: the stream failed.
    """
    with progress("loading the bundle"):
        opened = open_bundle(bundle)
        warm_up(opened.judge())
    note("demo: Kafka is librdkafka's mock cluster, and models and profiles are in this process.")
    note(
        "The mock keeps no offsets of transactions, and all of it is forgotten at the end: that "
        "nothing is lost or doubled in a crash, a real broker alone shows."
    )
    with stop_on_signals() as stop, mock_cluster(list(NAMES.model_dump().values())) as connection:
        worker = StreamWorker(connection, opened)
        payments = Payments(connection, opened.manifest.description, count, rate)
        watcher = Watcher(connection)
        worker.start()
        start = time.monotonic()
        payments.start()
        try:
            seen = _watch(stop, worker, payments, watcher)
        finally:
            payments.stop.set()
            payments.join(30)
            worker.stop()
            watcher.close()
    seconds = time.monotonic() - start
    return {
        "records": payments.sent,
        "decisions": sum(seen.decisions.values()),
        **{name: seen.decisions[name] for name in _STYLES},
        "dead_letters": seen.dead_letters,
        "commits": worker.meter.commits,
        "seconds": round(seconds, 3),
    }


def _watch(stop: Event, worker: StreamWorker, payments: Payments, watcher: Watcher) -> Seen:
    """Shows what comes, until there is an answer to everything that was sent."""
    before, since = 0, time.monotonic()
    with _screen() as show:
        while True:
            seen = watcher.look(0.25)
            show(seen, payments.sent)
            if worker.error is not None:
                raise worker.error
            if stop.is_set() or (not payments.is_alive() and seen.total >= payments.sent):
                return seen
            if seen.total > before:
                before, since = seen.total, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                raise KafkaFailed(f"demo: no decision for {PATIENCE:.0f} s")


@contextmanager
def _screen() -> Iterator[Any]:
    """Yields ``show(seen, sent)``: a table that changes on a terminal, else a line a second."""
    if sys.stderr.isatty():
        with Live(console=Console(stderr=True), refresh_per_second=8) as live:
            yield lambda seen, sent: live.update(_table(seen, sent))
        return
    last = 0.0

    def line(seen: Seen, sent: int) -> None:
        nonlocal last
        if seen.total and time.monotonic() - last > 1:
            last = time.monotonic()
            newest = seen.last[-1] if seen.last else None
            note(f"{_counts(seen, sent)}; {_line(newest)}" if newest else _counts(seen, sent))

    yield line


def _table(seen: Seen, sent: int) -> Table:
    drawn = Table(title=_counts(seen, sent), title_justify="left", box=None, expand=False)
    for name in ("transaction", "decision", "probability", "anomaly", "why"):
        drawn.add_column(name, no_wrap=True)
    for answer in seen.last:
        drawn.add_row(
            answer.transaction_id,
            f"[{_STYLES[answer.decision]}]{answer.decision}[/]",
            _number(answer.fraud_probability),
            _number(answer.anomaly_score),
            ", ".join(answer.reasons),
        )
    if seen.reason:
        drawn.caption = f"last dead letter: {seen.reason}"
    return drawn


def _counts(seen: Seen, sent: int) -> str:
    kinds = ", ".join(f"{name} {seen.decisions[name]:,}" for name in _STYLES)
    return f"{sent:,} sent; {kinds}, dead letters {seen.dead_letters:,}"


def _line(answer: Answer) -> str:
    why = f" ({', '.join(answer.reasons)})" if answer.reasons else ""
    probability = _number(answer.fraud_probability)
    return f"last {answer.transaction_id}: {answer.decision}, probability {probability}{why}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
