"""What is measured of servers, and how it is told: one kind of request at one load, a cell each."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from loadtest.contenders import NAMES
from loadtest.goals import Judgement, Table
from loadtest.overload import Overload
from loadtest.replicas import Core, Memory, Restart
from loadtest.vegeta import OpenLoop
from loadtest.wrk import Measured
from sentinel.answers import ARROW, JSON

BATCH_ROWS = 1_000

Value = TypeVar("Value")

NOT_ASKED = "not asked for (--only)"


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of request at one number of connections."""

    name: str
    path: str
    kind: str
    rows: int
    connections: int

    def __str__(self) -> str:
        return f"{self.name}, {self.connections} connections"


SINGLE_1 = Shape("single", "/predict", JSON, 1, 1)
SINGLE_64 = Shape("single", "/predict", JSON, 1, 64)
SINGLE_128 = Shape("single", "/predict", JSON, 1, 128)
JSON_1000 = Shape("json-1000", "/predict/batch", JSON, BATCH_ROWS, 4)
ARROW_1000 = Shape("arrow-1000", "/predict/batch", ARROW, BATCH_ROWS, 4)
SHAPES = (SINGLE_1, SINGLE_64, JSON_1000, ARROW_1000)


class Row(msgspec.Struct, frozen=True):
    """One cell: medians over the rounds; ``errors`` of all rounds together."""

    contender: str
    shape: str
    connections: int
    requests_per_s: float
    transactions_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    cpu_us: float | None = None
    """Processor time a request, of the contender and all that it started: less noisy than the
    rest where others use the machine too. The load generator's is not in it."""


class ServeBench(msgspec.Struct, frozen=True):
    """``contenders``: the row of one transaction a request at 64 connections, null where
    ``reasons`` says why; ``rows``: every other cell; ``ratios``: what follows from them;
    ``goals``: the least that some of them should be; ``notes``: what a contender ran with;
    ``degraded``: transactions, of those that a service counted, that were judged without
    something."""

    contenders: dict[str, Row | None]
    reasons: dict[str, str]
    rows: list[Row]
    ratios: dict[str, float]
    goals: dict[str, float] = {}
    notes: dict[str, str] = {}
    degraded: dict[str, int] = {}
    judged: list[Judgement] = []
    """Every goal, and whether it is reached."""
    open_loop: dict[str, OpenLoop] = {}
    """Each contender at a constant rate of half of what it can."""
    overload: Overload | None = None
    memory: list[Memory] = []
    restart: Restart | None = None
    cores: list[Core] = []
    extrapolated_cores_for_10000_per_s: dict[str, float] = {}
    """No measurement: what the requests a second a core come to if they add up."""


def together(parts: Sequence[ServeBench]) -> ServeBench:
    """All that was measured, and every contender that was not, with the reason."""
    found = {n: row for part in parts for n, row in part.contenders.items() if row is not None}
    reasons = dict.fromkeys(NAMES, NOT_ASKED)
    reasons |= _joined([part.reasons for part in parts])
    return ServeBench(
        contenders={name: found.get(name) for name in NAMES},
        reasons={name: reason for name, reason in reasons.items() if name not in found},
        rows=[row for part in parts for row in part.rows],
        ratios=_joined([part.ratios for part in parts]),
        goals=_joined([part.goals for part in parts]),
        notes=_joined([part.notes for part in parts]),
        degraded=_joined([part.degraded for part in parts]),
        judged=[each for part in parts for each in part.judged],
        open_loop=_joined([part.open_loop for part in parts]),
        overload=next((part.overload for part in parts if part.overload), None),
        memory=[each for part in parts for each in part.memory],
        restart=next((part.restart for part in parts if part.restart), None),
        cores=[each for part in parts for each in part.cores],
        extrapolated_cores_for_10000_per_s=_joined(
            [part.extrapolated_cores_for_10000_per_s for part in parts]
        ),
    )


def cell_of(name: str, shape: Shape, measured: Sequence[Measured]) -> Row:
    """The cell of these rounds."""

    def middle(of: Callable[[Measured], float], digits: int) -> float:
        return round(statistics.median(map(of, measured)), digits)

    rate = middle(lambda m: m.rate, 1)
    looked = [m for m in measured if m.processor and m.requests]
    return Row(
        contender=name,
        shape=shape.name,
        connections=shape.connections,
        requests_per_s=rate,
        transactions_per_s=round(rate * shape.rows, 1),
        p50_ms=middle(lambda m: m.p50 / 1000, 3),
        p95_ms=middle(lambda m: m.p95 / 1000, 3),
        p99_ms=middle(lambda m: m.p99 / 1000, 3),
        errors=sum(m.errors for m in measured),
        cpu_us=round(statistics.median(m.processor / m.requests for m in looked), 1)
        if looked
        else None,
    )


def ratios_of(
    one: str, other: str, rows: Mapping[tuple[str, Shape], Row], shapes: Sequence[Shape]
) -> dict[str, float]:
    """Requests a second of one contender for each of another's, by shape."""
    return {
        f"{one}/{other}, {shape}": round(
            rows[one, shape].requests_per_s / rows[other, shape].requests_per_s, 3
        )
        for shape in shapes
    }


def serve_table(bench: ServeBench) -> Table:
    """The cells, by shape."""
    columns = ["contender", "shape", "connections", "requests/s", "transactions/s"]
    columns += ["p50 ms", "p95 ms", "p99 ms", "errors"]
    single = [row for row in bench.contenders.values() if row is not None]
    cells = sorted([*single, *bench.rows], key=lambda row: (row.shape, row.connections))
    timed = any(row.cpu_us is not None for row in cells)
    return [*columns, *(["CPU us a request"] if timed else [])], [
        [
            row.contender,
            row.shape,
            str(row.connections),
            f"{row.requests_per_s:,.0f}",
            f"{row.transactions_per_s:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p95_ms:.2f}",
            f"{row.p99_ms:.2f}",
            str(row.errors),
            *([_microseconds(row.cpu_us)] if timed else []),
        ]
        for row in cells
    ]


def ratio_table(bench: ServeBench) -> Table:
    """The ratios, with their goals where there are any."""
    columns = ["ratio", "requests/s", *(["goal"] if bench.goals else [])]
    return columns, [
        [name, f"{ratio:.2f}", *([_goal(bench.goals.get(name))] if bench.goals else [])]
        for name, ratio in bench.ratios.items()
    ]


def _microseconds(spent: float | None) -> str:
    return "" if spent is None else f"{spent:,.0f}"


def _goal(least: float | None) -> str:
    return "" if least is None else f"{least:.2f}"


def _joined(parts: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    return {name: value for part in parts for name, value in part.items()}
