"""A spike, second by second, as a picture: rate, p95, queue and replicas under each policy."""

from collections.abc import Mapping
from pathlib import Path

from loadtest.scale_run import STAGES, Run, Second

P95_MS = 50.0


def draw(runs: Mapping[str, Run], file: Path) -> None:
    """Writes the picture as PNG: a column for each run, with axes in common."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(runs), 9), layout="constrained")
    axes = figure.subplots(4, len(runs), sharex=True, sharey="row", squeeze=False)
    for column, (name, run) in enumerate(runs.items()):
        rate, p95, queue, replicas = axes[:, column]
        seconds = run.seconds
        loaded = [second for second in seconds if second.load is not None]
        at = [second.at for second in loaded]
        rate.set_title(name)
        rate.plot(at, [_seen(second, "transactions") for second in loaded], color="C0")
        p95.plot(at, [_seen(second, "p95_ms") for second in loaded], color="C3")
        p95.axhline(P95_MS, color="0.6", linestyle=":")
        p95.set_yscale("log")
        for gauge, label in {"waiting_rows": "wait", "flying_rows": "fly"}.items():
            known = [second for second in seconds if gauge in second.gauges]
            queue.plot([s.at for s in known], [s.gauges[gauge] for s in known], label=label)
        for stage in STAGES:
            counts = [second.replicas[stage] for second in seconds]
            replicas.step([s.at for s in seconds], counts, where="post", label=stage)
        for part in (queue, replicas):
            if part.get_legend_handles_labels()[1]:
                part.legend(loc="upper right", fontsize="small")
        replicas.set_xlabel("seconds")
    names = ("transactions/s", "p95, ms", "transactions in the routers", "replicas (processes)")
    for part, label in zip(axes[:, 0], names, strict=True):
        part.set_ylabel(label)
    figure.savefig(file, dpi=110)


def _seen(second: Second, name: str) -> float:
    """Not a number where nothing was answered: the line has a gap there."""
    value = None if second.load is None else second.load[name]
    return float("nan") if value is None else float(value)
