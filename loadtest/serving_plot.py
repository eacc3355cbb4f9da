"""Throughput and p95 by contender, as one picture."""

import io

from matplotlib import rc_context, rcdefaults
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from loadtest.cells import Row, ServeBench

_OWN, _OTHER = "#1f6f8b", "#b9b9b9"


def serving_plot(bench: ServeBench) -> bytes:
    """Each contender's row of one transaction a request at 64 connections, as an SVG."""
    rows = [row for row in bench.contenders.values() if row is not None]
    # The defaults, not the reader's own settings: same figures, same bytes.
    with rc_context():
        rcdefaults()
        return _drawn(sorted(rows, key=lambda row: row.requests_per_s))


def _drawn(rows: list[Row]) -> bytes:
    figure = Figure(figsize=(9, 1 + 0.45 * len(rows)), layout="constrained")
    rates, times = figure.subplots(1, 2, sharey=True)
    names = [row.contender for row in rows]
    colours = [_OWN if name.startswith("sentinel") else _OTHER for name in names]
    for axes, title, values in (
        (rates, "requests/s", [row.requests_per_s for row in rows]),
        (times, "p95, ms", [row.p95_ms for row in rows]),
    ):
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
        axes.set_title(f"{title}, one transaction a request, 64 connections", fontsize=9)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    sink = io.BytesIO()
    FigureCanvasSVG(figure)
    with rc_context({"svg.hashsalt": "sentinel", "svg.fonttype": "none"}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue()
