"""What reasons cost the service: ``python -m loadtest.reasons_bench FOLDER``.

One service, two bundles of the same models and decisions, changed from round to round (SIGHUP): the
trees of one say how their training rows went, so reviews and blocks are explained; the other's do
not, so they are not. One transaction in a hundred that is sent is flagged.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

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
from sentinel.decision import APPROVE
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline
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


def flagged(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """(n,) those of these transactions that the bundle does not approve."""
    judge = replace(bundle.judge(), explainer=None)
    sent = JsonParser(judge.description).many(msgspec.json.encode(rows)).all_or_raise()
    return score_offline(judge, bundle.lanes(), sent).decision != APPROVE


def one_in_a_hundred(bundle: Bundle) -> list[dict[str, Any]]:
    """``BODIES`` made-up transactions in their order, a hundredth of which is flagged."""
    rows = transactions(4 * BODIES, 0)
    raised = flagged(bundle, rows)
    few = np.flatnonzero(raised)[: BODIES // 100]
    most = np.flatnonzero(~raised)[: BODIES - len(few)]
    return [rows[at] for at in np.sort(np.concatenate([few, most])).tolist()]


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
    found: dict[tuple[str, Shape], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, link = Path(temporary), Path(temporary) / "served"
        bundles = write_bundles(folder)
        plain = open_bundle(bundles[PLAIN][0])
        rows = one_in_a_hundred(plain)
        share = float(np.mean(flagged(plain, rows)))
        on_step(f"flagged: {share:.2%}")
        switch = Switch(link)
        switch.point(bundles[PLAIN][0])
        bodies = {SINGLE_64: [Template.fixed(msgspec.json.encode(row)) for row in rows]}
        bodies[ARROW_1000] = [Template.fixed(arrow_body(rows))]
        with running(apart(str(link), folder), folder) as started:
            for number in range(1, ROUNDS + 1):
                for name, bundle in sorted(bundles.items(), reverse=bool(number % 2)):
                    switch.to(started, *bundle)
                    for shape in SHAPES:
                        on_step(f"round {number} of {ROUNDS}: {name}, {shape}")
                        # A bundle that has just come is slow over its first batches.
                        *_, run = (
                            run_wrk(
                                started.url, shape.path, bodies[shape], shape.kind,
                                connections=shape.connections, seconds=seconds,
                            )
                            for seconds in (WARM_UP, SECONDS)
                        )  # fmt: skip
                        found.setdefault((name, shape), []).append(run)
    return share, found


def report(share: float, measured: dict[tuple[str, Shape], list[Measured]]) -> dict[str, Any]:
    """The cells, and for each shape the requests a second with features in the reasons for each
    without: the median over the rounds, whose two runs were side by side."""
    ratios = {}
    for shape in SHAPES:
        pairs = zip(measured[EXPLAINED, shape], measured[PLAIN, shape], strict=True)
        ratios[str(shape)] = round(statistics.median(a.rate / b.rate for a, b in pairs), 3)
    cells = [msgspec.to_builtins(cell_of(*key, runs)) for key, runs in measured.items()]
    return {
        "machine": describe_machine(),
        "flagged": share,
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
