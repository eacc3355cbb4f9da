"""What a load test is held to, and how its outcome is told: live, as a table, as JSON."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.exchanges import Kind
from loadtest.load import Load, LoadRun
from loadtest.service import Service
from loadtest.tally import PERCENTILES, Figures, Tally, merged, percentiles

FEW_WAITED = 0.5
"""Where fewer of the users than this share waited for the service, the load was not theirs."""


class Objective(msgspec.Struct, frozen=True):
    """What must hold for the load to have been borne."""

    p95_ms: float
    """At least 95% of the good answers came within so many milliseconds."""
    max_failed: int
    """At most so many requests failed."""

    def unmet(self, figures: Figures) -> list[str]:
        """Each part that does not hold, with figure and bound; empty where all holds."""
        reasons = []
        if figures.failed > self.max_failed:
            reasons.append(f"{figures.failed:,} failed, at most {self.max_failed:,} may")
        if figures.p95_ms is None:
            reasons.append("there was no good answer")
        elif figures.p95_ms > self.p95_ms:
            reasons.append(f"p95 is {figures.p95_ms:,.1f} ms, at most {self.p95_ms:g} ms may be")
        return reasons


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finished run, held to its objective."""

    service: Service
    load: Load
    run: LoadRun
    objective: Objective
    figures: Figures
    by_kind: Mapping[Kind, Figures]

    @classmethod
    def of(cls, service: Service, load: Load, run: LoadRun, objective: Objective) -> "Verdict":
        together = merged(run.tallies.values())
        by_kind = {kind: tally.figures(run.seconds) for kind, tally in run.tallies.items()}
        return cls(service, load, run, objective, together.figures(run.seconds), by_kind)

    @property
    def in_flight(self) -> float:
        """How many requests were under way, on average over the test.

        With a service that is slower than this process it is close to the number of users.
        """
        waited = sum(tally.waited_ms for tally in self.run.tallies.values()) / 1000
        return waited / self.run.seconds if self.run.seconds > 0 else 0.0

    @property
    def met(self) -> bool:
        return not self.objective.unmet(self.figures)

    def problems(self) -> list[tuple[str, int, str]]:
        """What went wrong, how often, and what the service first said of it; the worst first."""
        counted = merged(self.run.tallies.values()).problems.most_common()
        return [(what, number, self.run.details.get(what, "")) for what, number in counted]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for ``--json``."""
        load, run = self.load, self.run
        return {
            "url": self.service.address.url,
            "model_version": self.service.model_version,
            "kind": load.kind,
            "users": load.users,
            "shape": load.shape,
            "rows": 1 if load.kind == "single" else load.rows,
            "seed": load.seed,
            "warm_up": load.warm_up,
            "seconds": round(run.seconds, 3),
            "ended_early": run.ended_early,
            **msgspec.structs.asdict(self.figures),
            "by_kind": self.by_kind,
            "problems": {what: number for what, number, _ in self.problems()},
            "in_flight": round(self.in_flight, 2),
            "generator_busy": round(run.busy, 3),
            "objective": self.objective,
            "unmet": self.objective.unmet(self.figures),
            "objective_met": self.met,
        }

    def as_table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows: a column for each kind of request, and one for all of them."""
        parts = {str(kind): figures for kind, figures in self.by_kind.items()}
        if len(parts) > 1:
            parts["all"] = self.figures
        figures = list(parts.values())
        rows = [
            ["requests", *(f"{f.requests:,}" for f in figures)],
            ["failed", *(f"{f.failed:,}" for f in figures)],
            ["of them shed", *(f"{f.shed:,}" for f in figures)],
            ["degraded answers", *(f"{f.degraded:,}" for f in figures)],
            ["requests/s", *(f"{f.requests_per_s:,.0f}" for f in figures)],
            ["transactions/s", *(f"{f.transactions_per_s:,.0f}" for f in figures)],
            ["p50, ms", *(_ms(f.p50_ms) for f in figures)],
            ["p95, ms", *(_ms(f.p95_ms) for f in figures)],
            ["p99, ms", *(_ms(f.p99_ms) for f in figures)],
            ["slowest, ms", *(_ms(f.max_ms) for f in figures)],
        ]
        return ["", *parts], rows

    def in_words(self) -> str:
        """The verdict in one line."""
        unmet = self.objective.unmet(self.figures)
        if unmet:
            return "objective not met: " + "; ".join(unmet)
        p95, bound = _ms(self.figures.p95_ms), f"{self.objective.p95_ms:g}"
        return f"objective met: p95 {p95} ms (at most {bound}), {self.figures.failed:,} failed"

    def advice(self) -> list[str]:
        """What a reader of the figures should know."""
        said = []
        if self.run.ended_early:
            said.append(f"ended early, after {self.run.seconds:.1f} s")
        load = self.load
        at_once = load.spawn_rate is None and not load.pause and self.figures.failed == 0
        users = self.load.mean_users
        if at_once and self.in_flight < FEW_WAITED * users:
            said.append(
                f"only {self.in_flight:.1f} of {users:.3g} users waited for the service at a "
                "time: making the load took longer than answering it, so the service can bear more"
            )
        return said


class LiveTable:
    """The figures of the last second, where standard error is a terminal; nothing elsewhere."""

    COLUMNS = (
        "seconds", "requests", "failed", "shed", "requests/s", "transactions/s",
        *(f"p{percent}, ms" for percent in PERCENTILES),
    )  # fmt: skip

    def __init__(self) -> None:
        # Drawn when asked, without rich's thread: gevent's loop runs in this one.
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._shown = sys.stderr.isatty()
        self._seconds = 0.0
        self._before: dict[Kind, tuple[int, int, int]] = {}

    def __enter__(self) -> "LiveTable":
        if self._shown:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._live.stop()

    def __call__(self, tallies: Mapping[Kind, Tally], seconds: float) -> None:
        """Shows the next second."""
        if not self._shown:
            return
        drawn = Table(box=None, title="the last second", title_justify="left")
        for name in self.COLUMNS:
            drawn.add_column(name, justify="right")
        drawn.add_row(*self.row(tallies, seconds))
        self._live.update(drawn, refresh=True)

    def row(self, tallies: Mapping[Kind, Tally], seconds: float) -> Sequence[str]:
        """Counts since the start; rates and times since the last call."""
        passed = seconds - self._seconds
        before = [self._before.get(kind, (0, 0, 0)) for kind in tallies]
        now = [(tally.requests, tally.transactions, tally.good) for tally in tallies.values()]
        new = np.sum(now, axis=0) - np.sum(before, axis=0)
        times = np.concatenate(
            [
                tally.times(good)
                for tally, (_, _, good) in zip(tallies.values(), before, strict=True)
            ]
        )
        self._seconds, self._before = seconds, dict(zip(tallies, now, strict=True))
        return (
            f"{seconds:.0f}",
            f"{sum(tally.requests for tally in tallies.values()):,}",
            f"{sum(tally.failed for tally in tallies.values()):,}",
            f"{sum(tally.shed for tally in tallies.values()):,}",
            f"{new[0] / passed:,.0f}",
            f"{new[1] / passed:,.0f}",
            *map(_ms, percentiles(times, PERCENTILES)),
        )


def _ms(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:,.1f}"
