"""What the turns of ``serve_bench`` came to: cells, ratios, and every goal beside its figure."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.cells import (
    SINGLE_64,
    SINGLE_128,
    Row,
    ServeBench,
    Shape,
    cell_of,
    ratio_table,
    ratios_of,
    serve_table,
)
from loadtest.contenders import RECIPES
from loadtest.goals import BEST_RIVAL, GOALS, Table, goal_table, judge
from loadtest.overload import Overload, figures_of, open_loop_table
from loadtest.replicas import Core, Memory, Restart, core_table, extrapolated, memory_table
from loadtest.vegeta import OpenLoop
from loadtest.wrk import Measured

RIVALS = ("litserve", "mlserver")

Rows = Mapping[tuple[str, Shape], Row]


@dataclass(slots=True)
class Found:
    """What was measured so far; ``reasons`` for contenders that could not be."""

    cells: dict[tuple[str, Shape], list[Measured]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    open_loop: dict[str, OpenLoop] = field(default_factory=dict)
    overload: Overload | None = None
    memory: list[Memory] = field(default_factory=list)
    restart: Restart | None = None
    cores: list[Core] = field(default_factory=list)

    def peak(self, name: str) -> float:
        """Requests a second of one transaction, the most of its last turn."""
        shapes = (SINGLE_64, SINGLE_128)
        return max(self.cells[name, s][-1].rate for s in shapes if (name, s) in self.cells)

    def drop(self, name: str, reason: str) -> None:
        """It failed: what was measured of it is not told."""
        self.reasons[name] = reason
        self.cells = {key: runs for key, runs in self.cells.items() if key[0] != name}
        self.open_loop.pop(name, None)


def report(found: Found) -> ServeBench:
    """All of it, by the names of the result."""
    rows = {key: cell_of(*key, measured) for key, measured in found.cells.items()}
    beside = ratios(rows)
    cores = [*found.cores, *all_cores(rows)] if found.cores else []
    figures = beside | figures_of_rows(rows) | figures_of(found.overload)
    if found.restart is not None:
        figures["replica, start to ready, s"] = found.restart.start_to_ready_s
    return ServeBench(
        contenders={name: rows.get((name, SINGLE_64)) for name in RECIPES},
        reasons=found.reasons,
        rows=[row for (_, shape), row in rows.items() if shape is not SINGLE_64],
        ratios=beside,
        goals={goal.figure: goal.goal for goal in GOALS if goal.figure in beside},
        notes=found.notes,
        judged=judge(figures),
        open_loop=found.open_loop,
        overload=found.overload,
        memory=found.memory,
        restart=found.restart,
        cores=cores,
        extrapolated_cores_for_10000_per_s=extrapolated(cores),
    )


def ratios(rows: Rows) -> dict[str, float]:
    """Requests a second of the service for each of another's, at every shape that both have."""
    found: dict[str, float] = {}
    names = dict.fromkeys(name for name, _ in rows)
    for other in names:
        shared = [shape for name, shape in rows if name == other and ("sentinel", shape) in rows]
        if other != "sentinel":
            found |= ratios_of("sentinel", other, rows, shared)
    rivals = [rows[name, SINGLE_64] for name in RIVALS if (name, SINGLE_64) in rows]
    if rivals and ("sentinel", SINGLE_64) in rows:
        best = max(rival.requests_per_s for rival in rivals)
        own = rows["sentinel", SINGLE_64].requests_per_s
        found[f"sentinel/{BEST_RIVAL}, {SINGLE_64}"] = round(own / best, 3)
    return found


def figures_of_rows(rows: Rows) -> dict[str, float | None]:
    """What the goals of the service's own cells are held against."""
    figures: dict[str, float | None] = {}
    for (name, shape), row in rows.items():
        if name == "sentinel":
            figures[f"{name}, {shape}, p50 ms"] = row.p50_ms
            figures[f"{name}, {shape}, p95 ms"] = row.p95_ms
            figures[f"{name}, {shape}, p99 ms"] = row.p99_ms
            figures[f"{name}, {shape}, transactions/s"] = row.transactions_per_s
    return figures


def all_cores(rows: Rows) -> list[Core]:
    """The service on all cores, as everywhere in the table."""
    rate, count = rows["sentinel", SINGLE_64].requests_per_s, len(os.sched_getaffinity(0))
    return [Core(count, "on the same cores", rate, round(rate / count, 1))]


def serving_tables(bench: ServeBench) -> Sequence[tuple[str, Table]]:
    """The tables of the part, each with its title; one that there is nothing for has no rows."""
    return [
        ("The service beside others", serve_table(bench)),
        ("Beside each other", ratio_table(bench)),
        ("Goals", goal_table(bench.judged)),
        ("At a constant rate", open_loop_table(bench.open_loop, bench.overload)),
        ("Memory", memory_table(bench.memory)),
        ("Cores", core_table(bench.cores, bench.extrapolated_cores_for_10000_per_s)),
    ]
