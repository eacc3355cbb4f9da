"""The service beside the limit, in one run: the same bundle, the same bodies, the same two cores.

All contenders run at once and are measured in turn, round after round, so that a noisy moment of
the machine falls on all of them alike; a cell is the median of its rounds. wrk sends as fast as
answers come (closed loop) and shares the cores. Before anything is timed, each contender's answers
are held against offline scoring.
"""

import statistics
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from loadtest.bench_bundle import write_bench_bundle
from loadtest.contenders import NAMES, NOT_MEASURED, contenders, running
from loadtest.limit_app import FIELDS
from loadtest.wrk import Measured, check_wrk, run_wrk
from sentinel.answers import ARROW, JSON, answers
from sentinel.bundle import open_bundle
from sentinel.errors import SentinelError
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline

ROUNDS = 3
SECONDS = 4.0
BODIES = 256
BATCH_ROWS = 1_000
TOLERANCE = 1e-5
"""Largest difference of a probability: the contenders round to float32 in different places."""


class WrongAnswer(SentinelError):
    """A contender answered something else than offline scoring: its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of request at one number of connections."""

    name: str
    path: str
    kind: str
    rows: int
    connections: int


SINGLE_1 = Shape("single", "/predict", JSON, 1, 1)
SINGLE_64 = Shape("single", "/predict", JSON, 1, 64)
SHAPES = (
    SINGLE_1,
    SINGLE_64,
    Shape("json-1000", "/predict/batch", JSON, BATCH_ROWS, 4),
    Shape("arrow-1000", "/predict/batch", ARROW, BATCH_ROWS, 4),
)


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


class ServeBench(msgspec.Struct, frozen=True):
    """``contenders``: the row of one transaction a request at 64 connections, null where
    ``reasons`` says why; ``rows``: every other cell; ``ratios``: what follows from them."""

    contenders: dict[str, Row | None]
    reasons: dict[str, str]
    rows: list[Row]
    ratios: dict[str, float]


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
            urls[contender.name] = stack.enter_context(running(contender, Path(folder)))
        bodies = {shape: _bodies(shape) for shape in SHAPES}
        for name, url in urls.items():
            on_step(f"checking the answers of {name}")
            _check_answers(name, url, bundle)
        cells = _rounds(urls, bodies, on_step)
    return _report(list(urls), cells)


def serving_result(bench: ServeBench) -> dict[str, Any]:
    """The same as it stands in the result of ``sentinel bench``."""
    content: dict[str, Any] = msgspec.to_builtins(bench)
    return content


def serve_table(bench: ServeBench) -> tuple[list[str], list[list[str]]]:
    """Column names and rows."""
    columns = ["contender", "shape", "connections", "requests/s", "transactions/s"]
    columns += ["p50 ms", "p95 ms", "p99 ms", "errors"]
    single = [row for row in bench.contenders.values() if row is not None]
    return columns, [
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
        ]
        for row in sorted([*single, *bench.rows], key=lambda row: (row.shape, row.connections))
    ]


def _rounds(
    urls: dict[str, str], bodies: dict[Shape, list[bytes]], on_step: Callable[[str], None]
) -> dict[tuple[str, Shape], list[Measured]]:
    cells: dict[tuple[str, Shape], list[Measured]] = {}
    for number in range(ROUNDS + 1):
        for shape in SHAPES:
            for name, url in urls.items():
                doing = f"round {number} of {ROUNDS}" if number else "warming up"
                on_step(f"{doing}: {name}, {shape.name}, {shape.connections} connections")
                measured = run_wrk(
                    url,
                    shape.path,
                    bodies[shape],
                    shape.kind,
                    connections=shape.connections,
                    seconds=SECONDS if number else SECONDS / 2,
                )
                if number:
                    cells.setdefault((name, shape), []).append(measured)
    return cells


def _report(names: Sequence[str], cells: dict[tuple[str, Shape], list[Measured]]) -> ServeBench:
    rows = {key: _row(*key, measured) for key, measured in cells.items()}
    return ServeBench(
        contenders={name: rows[name, SINGLE_64] if name in names else None for name in NAMES},
        reasons={name: NOT_MEASURED for name in NAMES if name not in names},
        rows=[row for (_, shape), row in rows.items() if shape is not SINGLE_64],
        ratios={
            f"sentinel/limit, {shape.name}, {shape.connections} connections": round(
                rows["sentinel", shape].requests_per_s / rows["limit", shape].requests_per_s, 3
            )
            for shape in SHAPES
        },
    )


def _row(name: str, shape: Shape, measured: Sequence[Measured]) -> Row:
    def middle(of: Callable[[Measured], float], digits: int) -> float:
        return round(statistics.median(map(of, measured)), digits)

    rate = middle(lambda m: 1e6 * m.requests / m.microseconds, 1)
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
    )


def _transactions(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(count, len(FIELDS))), 6)
    values[:, -1] = np.round(np.abs(values[:, -1]) * 100, 2)
    return [
        {"transaction_id": f"b{seed}-{at}", **dict(zip(FIELDS, row, strict=True))}
        for at, row in enumerate(values.tolist())
    ]


def _bodies(shape: Shape) -> list[bytes]:
    if shape.rows == 1:
        return [msgspec.json.encode(row) for row in _transactions(BODIES, 0)]
    batches = [_transactions(shape.rows, 1 + at) for at in range(8)]
    encode = _arrow if shape.kind == ARROW else msgspec.json.encode
    return [encode(batch) for batch in batches]


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
    transactions = JsonParser(judge.description).many(msgspec.json.encode(rows)).all_or_raise()
    decisions = score_offline(judge, opened.lanes(), transactions)
    expected = {a.transaction_id: a for a in answers(decisions, judge.description.policy)}
    single = [msgspec.json.decode(_post(url, "/predict", JSON, _json(row))) for row in rows]
    batch = msgspec.json.decode(_post(url, "/predict/batch", JSON, _json(rows)))["results"]
    stream = pa.ipc.open_stream(_post(url, "/predict/batch", ARROW, _arrow(rows)))
    for answer in [*single, *batch, *stream.read_all().to_pylist()]:
        wanted = expected[answer["transaction_id"]]
        near = all(
            abs(answer[field] - getattr(wanted, field)) <= TOLERANCE
            for field in ("fraud_probability", "anomaly_score")
        )
        if not near or answer["decision"] != wanted.decision:
            raise WrongAnswer(f"{name} answers {answer}, offline scoring says {wanted}")


def _json(content: Any) -> bytes:
    return msgspec.json.encode(content)


def _post(url: str, path: str, kind: str, body: bytes) -> bytes:
    request = urllib.request.Request(url + path, body, {"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
    except OSError as error:
        raise WrongAnswer(f"{url}{path} has no answer: {error}") from error
    return content
