"""A spike, second by second, as a picture: rate, p95, queue and replicas under each policy."""

import io
from collections.abc import Mapping

from matplotlib import rc_context, rcdefaults
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from loadtest.scale_run import STAGES, Run, Second

P95_MS = 50.0


def spike_plot(runs: Mapping[str, Run]) -> bytes:
    """An SVG with a column for each run, and axes in common: same figures, same bytes."""
    with rc_context():
        rcdefaults()
        figure = _drawn(runs)
        sink = io.BytesIO()
        FigureCanvasSVG(figure)
        with rc_context({"svg.hashsalt": "sentinel", "svg.fonttype": "none"}):
            figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()


def _drawn(runs: Mapping[str, Run]) -> Figure:
    figure = Figure(figsize=(5 * len(runs), 8), layout="constrained")
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
        for place, stage in enumerate(STAGES):
            # A little apart, or the last one would hide the others.
            counts = [second.replicas[stage] + 0.04 * (place - 1) for second in seconds]
            replicas.step([s.at for s in seconds], counts, where="post", label=stage)
        for part in (queue, replicas):
            if part.get_lines() and part.get_lines()[0].get_xdata().size:
                part.legend(loc="upper right", fontsize="small")
            else:
                part.text(0.5, 0.5, "not reported", transform=part.transAxes, ha="center")
        replicas.set_xlabel("seconds")
    names = ("transactions/s", "p95, ms", "transactions in the routers", "replicas (processes)")
    for part, label in zip(axes[:, 0], names, strict=True):
        part.set_ylabel(label)
    return figure


def _seen(second: Second, name: str) -> float:
    """Not a number where nothing was answered: the line has a gap there."""
    value = None if second.load is None else second.load[name]
    return float("nan") if value is None else float(value)
