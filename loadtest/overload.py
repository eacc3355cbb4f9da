"""Three times what the service can: what it still answers, how fast, and what it tells the rest."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.goals import Table
from loadtest.processes import Started
from loadtest.replicas import ROUTER, resident
from loadtest.vegeta import OpenLoop, attack
from sentinel.answers import JSON

TIMES = 3
SECONDS = 10
SETTLE_SECONDS = 5
"""An overload before the one that is measured: memory that the first one needs stays taken."""

CONNECTIONS = 1_024
"""Most that the load generator has open at once: several times what a service needs that answers
the accepted within 100 ms and refuses the rest at once. Where all of them wait for an answer, less
is offered than was asked, and the overload is a smaller one. Of 4,000 the kernel dropped new ones
by the thousand (its count of overflowing listen queues), and its retries of seconds were mixed
in; of 2,048 and fewer none."""


class Overload(msgspec.Struct, frozen=True):
    """``peak_per_s``: what the service answered in a closed loop in the same turn; ``load``: what
    became of ``times`` as many requests a second; resident memory of the routers in MB."""

    contender: str
    times: int
    peak_per_s: float
    load: OpenLoop
    accepted_of_peak: float
    router_before_mb: float
    router_after_mb: float


def overload(
    tool: Path, name: str, started: Started, path: str, bodies: Sequence[bytes], peak: float
) -> Overload:
    """Overloads it twice and reports the second time.

    :raises NotMeasurable: the load generator failed.
    """
    before, loads = 0.0, []
    for seconds in (SETTLE_SECONDS, SECONDS):
        before = resident(started, ROUTER)
        loads.append(
            attack(
                tool,
                started.url + path,
                bodies,
                JSON,
                rate=TIMES * peak,
                seconds=seconds,
                connections=CONNECTIONS,
            )
        )
    load = loads[-1]
    return Overload(
        contender=name,
        times=TIMES,
        peak_per_s=round(peak, 1),
        load=load,
        accepted_of_peak=round(load.accepted_per_s / peak, 3),
        router_before_mb=before,
        router_after_mb=resident(started, ROUTER),
    )


def figures_of(found: Overload | None) -> dict[str, float | None]:
    """What the goals of an overload are held against."""
    if found is None:
        return {}
    load = found.load
    said = load.refused_with_retry_after / load.refused if load.refused else None
    grown = found.router_after_mb / found.router_before_mb if found.router_before_mb else None
    return {
        "overload, offered/peak": round(load.offered_per_s / found.peak_per_s, 3),
        "overload, accepted/peak": found.accepted_of_peak,
        "overload, p95 ms of the accepted": load.p95_ms,
        "overload, neither accepted nor 503": load.errors,
        "overload, share of the 503 with Retry-After": said,
        "overload, router memory after/before": None if grown is None else round(grown, 3),
    }


def open_loop_table(loads: dict[str, OpenLoop], found: Overload | None) -> Table:
    """A row a contender at its constant rate, and the overload."""
    columns = ["contender", "asked/s", "offered/s", "accepted/s", "p50 ms", "p95 ms", "p99 ms"]
    columns += ["503", "503 p95 ms", "errors", "connections at most"]
    rows = [_row(name, load) for name, load in loads.items()]
    if found is not None:
        rows.append(_row(f"{found.contender}, {found.times} times its peak", found.load))
    return columns, rows


def _row(name: str, load: OpenLoop) -> list[str]:
    times = [load.p50_ms, load.p95_ms, load.p99_ms]
    return [
        name,
        *(f"{rate:,.0f}" for rate in (load.asked_per_s, load.offered_per_s, load.accepted_per_s)),
        *("" if value is None else f"{value:.2f}" for value in times),
        f"{load.refused:,}",
        "" if load.refused_p95_ms is None else f"{load.refused_p95_ms:.2f}",
        str(load.errors),
        f"{load.connections:,}",
    ]
