"""The service beside the limit, in one run: the same bundle, the same bodies, the same two cores.

All contenders run at once and are measured in turn, round after round, so that a noisy moment of
the machine falls on all of them alike; a cell is the median of its rounds. wrk sends as fast as
answers come (closed loop) and shares the cores. Before anything is timed, each contender's answers
are held against offline scoring.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from loadtest.answer_check import check_near, post
from loadtest.bench_bundle import write_bench_bundle
from loadtest.cells import SHAPES, SINGLE_64, ServeBench, Shape, cell_of, ratios_of
from loadtest.contenders import contenders, running
from loadtest.limit_app import FIELDS
from loadtest.templates import Template
from loadtest.wrk import Measured, check_wrk, run_wrk
from sentinel.answers import ARROW, JSON, answers
from sentinel.bundle import open_bundle
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline

ROUNDS = 3
SECONDS = 3
WARM_UP = 1
BODIES = 256


def measure_serving(on_step: Callable[[str], None] = lambda _: None) -> ServeBench:
    """Every cell of the table.

    :raises NoWrk: there is no load generator.
    :raises ContenderFailed: one did not start.
    :raises WrongAnswer: one is wrong.
    """
    check_wrk()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        on_step("training the models to serve")
        bundle = str(Path(folder) / "bundle")
        write_bench_bundle(bundle)
        urls = {}
        for contender in contenders(bundle):
            on_step(f"starting {contender.name}")
            urls[contender.name] = stack.enter_context(running(contender, Path(folder))).url
        bodies = {shape: _bodies(shape) for shape in SHAPES}
        for name, url in urls.items():
            on_step(f"checking the answers of {name}")
            _check_answers(name, url, bundle)
        cells = _rounds(urls, bodies, on_step)
    return _report(list(urls), cells)


def _rounds(
    urls: dict[str, str], bodies: dict[Shape, list[Template]], on_step: Callable[[str], None]
) -> dict[tuple[str, Shape], list[Measured]]:
    cells: dict[tuple[str, Shape], list[Measured]] = {}
    for number in range(ROUNDS + 1):
        for shape in SHAPES:
            for name, url in urls.items():
                doing = f"round {number} of {ROUNDS}" if number else "warming up"
                on_step(f"{doing}: {name}, {shape}")
                measured = run_wrk(
                    url,
                    shape.path,
                    bodies[shape],
                    shape.kind,
                    connections=shape.connections,
                    seconds=SECONDS if number else WARM_UP,
                )
                if number:
                    cells.setdefault((name, shape), []).append(measured)
    return cells


def _report(names: Sequence[str], cells: dict[tuple[str, Shape], list[Measured]]) -> ServeBench:
    rows = {key: cell_of(*key, measured) for key, measured in cells.items()}
    return ServeBench(
        contenders={name: rows[name, SINGLE_64] for name in names},
        reasons={},
        rows=[row for (_, shape), row in rows.items() if shape is not SINGLE_64],
        ratios=ratios_of("sentinel", "limit", rows, SHAPES),
    )


def _transactions(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(count, len(FIELDS))), 6)
    values[:, -1] = np.round(np.abs(values[:, -1]) * 100, 2)
    return [
        {"transaction_id": f"b{seed}-{at}", **dict(zip(FIELDS, row, strict=True))}
        for at, row in enumerate(values.tolist())
    ]


def _bodies(shape: Shape) -> list[Template]:
    """Repeated as they are: this bundle has no profiles, and so no identity."""
    if shape.rows == 1:
        return [Template.fixed(_json(row)) for row in _transactions(BODIES, 0)]
    batches = [_transactions(shape.rows, 1 + at) for at in range(8)]
    encode = _arrow if shape.kind == ARROW else _json
    return [Template.fixed(encode(batch)) for batch in batches]


def _arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _check_answers(name: str, url: str, bundle: str) -> None:
    rows = _transactions(50, 99)
    opened = open_bundle(bundle)
    judge = opened.judge()
    transactions = JsonParser(judge.description).many(_json(rows)).all_or_raise()
    expected = answers(score_offline(judge, opened.lanes(), transactions))
    single = [msgspec.json.decode(post(url, "/predict", JSON, _json(row))) for row in rows]
    batch = msgspec.json.decode(post(url, "/predict/batch", JSON, _json(rows)))["results"]
    stream = pa.ipc.open_stream(post(url, "/predict/batch", ARROW, _arrow(rows)))
    for got in (single, batch, stream.read_all().to_pylist()):
        check_near(name, got, expected)


def _json(content: Any) -> bytes:
    return msgspec.json.encode(content)
