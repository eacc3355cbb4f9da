"""``make demo-autoscale``: one spike under our policy and under Serve's default, drawn and counted.

Runs the real service with small replicas, puts ``sentinel load --shape spike`` on it, shows a live
table, and writes what it saw: ``autoscale.json``, ``autoscale.md``, ``autoscale.svg``.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.autoscale_picture import P95_MS, spike_plot
from loadtest.bench_command import markdown
from loadtest.machine import describe_machine
from loadtest.scale_run import STAGES, CannotRun, Plan, Run, Second, run

OURS, DEFAULT = "by queue", "Serve's default"
PLANS = {
    # Our settings as shipped, and time to see replicas go a minute after the spike.
    OURS: Plan(policy={}, seconds=120, after=35),
    DEFAULT: Plan(policy=None, seconds=120, after=5),
}


class Runs(msgspec.Struct, frozen=True):
    """A spike under each policy."""

    by_policy: dict[str, Run]
    machine: dict[str, str | int] = {}


def table(runs: Runs) -> tuple[list[str], list[list[str]]]:
    """The comparison, a column for each policy."""
    found = runs.by_policy.values()
    rows = [
        ["seconds with p95 over 50 ms", *(f"{one.late_seconds(P95_MS)}" for one in found)],
        ["requests", *(f"{one.result['requests']:,}" for one in found)],
        ["transactions/s", *(f"{one.result['transactions_per_s']:,.0f}" for one in found)],
        ["p95, ms", *(f"{one.result['p95_ms']:,.0f}" for one in found)],
        ["failed", *(f"{one.result['failed']:,}" for one in found)],
        ["of them shed", *(f"{one.result['shed']:,}" for one in found)],
        ["replica-seconds under load", *(f"{one.replica_seconds:,.0f}" for one in found)],
    ]
    for stage in STAGES:
        most = (max(second.replicas[stage] for second in one.seconds) for one in found)
        rows.append([f"most replicas of {stage}", *(f"{count}" for count in most)])
    busy = ([f"{share:.0%}" for share in one.busy_with_others] for one in found)
    rows.append(["cores busy with others before and after", *(", ".join(each) for each in busy)])
    return ["", *runs.by_policy], rows


def main(
    bundle: Annotated[str, typer.Option(help="The bundle to serve.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where table and picture go.")],
) -> None:
    """Runs the spike under both policies."""
    found = {}
    for name, plan in PLANS.items():
        with tempfile.TemporaryDirectory() as folder, LastSecond(name) as watch:
            found[name] = run(plan, bundle, Path(folder), watch)
    runs = Runs(found, describe_machine())
    out.mkdir(parents=True, exist_ok=True)
    (out / "autoscale.json").write_bytes(msgspec.json.encode(runs) + b"\n")
    text = markdown(*table(runs))
    (out / "autoscale.md").write_text(text + "\n", encoding="utf-8")
    (out / "autoscale.svg").write_bytes(spike_plot(runs.by_policy))
    typer.echo(text)


class LastSecond:
    """The last second as a table, where standard error is a terminal; a line each elsewhere."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._live = Live(console=Console(stderr=True), transient=True)
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Callable[[Second], object]:
        if self._terminal:
            self._live.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            self._live.stop()

    def _show(self, second: Second) -> None:
        cells = {
            **{name: f"{value:,.0f}" for name, value in second.gauges.items() if "_" in name},
            "arrivals": f"{second.gauges.get('arrivals', 0):,.0f}",
            **{stage: f"{count}" for stage, count in second.replicas.items()},
        }
        if not self._terminal:
            typer.echo(f"{self._policy}: {cells}", err=True)
            return
        shown = Table(title=self._policy, box=None)
        for name in cells:
            shown.add_column(name, justify="right")
        shown.add_row(*cells.values())
        self._live.update(shown)


if __name__ == "__main__":
    try:
        typer.run(main)
    except CannotRun as error:
        sys.exit(f"autoscale_demo: {error}")
