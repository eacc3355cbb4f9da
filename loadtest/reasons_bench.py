"""What reasons cost the service: ``python -m loadtest.reasons_bench FOLDER``.

One service, two bundles of the same models and decisions, changed from round to round (SIGHUP): the
trees of one say how their training rows went, so reviews and blocks are explained; the other's do
not, so they are not. One transaction in a hundred that is sent is flagged.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest.bench_bundle import write_bench_bundle
from loadtest.bench_command import markdown
from loadtest.cells import ARROW_1000, SINGLE_64, Shape, cell_of
from loadtest.contenders import apart
from loadtest.machine import describe_machine
from loadtest.processes import running
from loadtest.profile_bench import Switch
from loadtest.serving_bodies import arrow_body, transactions
from loadtest.templates import Template
from loadtest.wrk import Measured, check_wrk, run_wrk
from sentinel.bundle import Bundle, open_bundle, write_bundle
from sentinel.console import note
from sentinel.dataset import load_description
from sentinel.decision import APPROVE
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline
from sentinel.transactions import Transactions
from sentinel.trees import read_ensemble, to_booster

ROUNDS, SECONDS, WARM_UP = 5, 3, 1
GOAL = 0.9
"""Least share of the requests a second that reasons should leave."""
BODIES = 1000
SHAPES = (SINGLE_64, ARROW_1000)
EXPLAINED, PLAIN = "explained", "plain"

Bundles = Mapping[str, tuple[str, str]]
"""Place and digest of each."""


def write_bundles(folder: Path) -> Bundles:
    """Both, of the same decisions; a hundredth of them are no approval."""
    place = str(folder / EXPLAINED)
    digest = write_bench_bundle(place)
    opened = open_bundle(place)
    silent = {
        entry.file: _silent(opened.files[entry.file]) for entry in opened.manifest.models.values()
    }
    other = str(folder / PLAIN)
    return {
        EXPLAINED: (place, digest),
        PLAIN: (other, write_bundle(other, opened.manifest, {**opened.files, **silent})),
    }


def flagged_share(bundle: Bundle, sent: Transactions) -> float:
    """Share of these that the bundle does not approve."""
    decisions = score_offline(replace(bundle.judge(), explainer=None), bundle.lanes(), sent)
    return float(np.mean(decisions.decision != APPROVE))


def _silent(model: bytes) -> bytes:
    """The same model, whose trees do not say how their training rows went."""
    trees = read_ensemble(model)
    return bytes(to_booster(replace(trees, cover=np.zeros_like(trees.cover))).save_raw("ubj"))


def measure(
    on_step: Callable[[str], None] = note,
) -> tuple[float, dict[tuple[str, Shape], list[Measured]]]:
    """The share of what was sent that was flagged, and what the service did with each bundle in
    each round.

    :raises NoWrk: there is no load generator.
    :raises ContenderFailed: the service did not start, or does not take a bundle.
    """
    check_wrk()
    rows = transactions(BODIES, 0)
    found: dict[tuple[str, Shape], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, link = Path(temporary), Path(temporary) / "served"
        parser = JsonParser(load_description("creditcard"))
        sent = parser.many(msgspec.json.encode(rows)).all_or_raise()
        bundles = write_bundles(folder)
        flagged = flagged_share(open_bundle(bundles[PLAIN][0]), sent)
        on_step(f"flagged: {flagged:.2%}")
        switch = Switch(link)
        switch.point(bundles[PLAIN][0])
        bodies = {SINGLE_64: [Template.fixed(msgspec.json.encode(row)) for row in rows]}
        bodies[ARROW_1000] = [Template.fixed(arrow_body(rows))]
        with running(apart(str(link), folder), folder) as started:
            for number in range(ROUNDS + 1):
                for name, bundle in bundles.items():
                    switch.to(started, *bundle)
                    for shape in SHAPES:
                        on_step(f"round {number} of {ROUNDS}: {name}, {shape}")
                        run = run_wrk(
                            started.url, shape.path, bodies[shape], shape.kind,
                            connections=shape.connections,
                            seconds=SECONDS if number else WARM_UP,
                        )  # fmt: skip
                        if number:
                            found.setdefault((name, shape), []).append(run)
    return flagged, found


def report(flagged: float, measured: dict[tuple[str, Shape], list[Measured]]) -> dict[str, Any]:
    """The cells, and for each shape the requests a second with features in the reasons for each
    without: the median over the rounds, whose two runs were side by side."""
    ratios = {}
    for shape in SHAPES:
        pairs = zip(measured[EXPLAINED, shape], measured[PLAIN, shape], strict=True)
        ratios[str(shape)] = round(statistics.median(a.rate / b.rate for a, b in pairs), 3)
    cells = [msgspec.to_builtins(cell_of(*key, runs)) for key, runs in measured.items()]
    return {
        "machine": describe_machine(),
        "flagged": flagged,
        "rows": cells,
        "ratios": ratios,
        "goal": GOAL,
    }


def markdown_of(found: Mapping[str, Any]) -> str:
    """The table of ``docs/benchmarks.md``."""
    columns = ["shape", "connections", "with features", "without", "ratio", "goal"]
    rows = []
    for shape in SHAPES:
        rates = {
            row["contender"]: row["requests_per_s"]
            for row in found["rows"]
            if (row["shape"], row["connections"]) == (shape.name, shape.connections)
        }
        both = [f"{rates[name]:,.0f}" for name in (EXPLAINED, PLAIN)]
        ratio = f"{found['ratios'][str(shape)]:.2f}"
        rows.append([shape.name, str(shape.connections), *both, ratio, f"{GOAL:.2f}"])
    return markdown(columns, rows) + "\n"


def main(folder: Path) -> None:
    """Writes the figures and their table into this folder."""
    found = report(*measure())
    (folder / "reasons.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    (folder / "reasons.md").write_text(markdown_of(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
