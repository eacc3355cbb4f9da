"""The speed of the core, step by step: parse, features, and each runtime by batch size.

One thread, the shapes of ``BATCHES``; times are the processor's for this process, which others on
the machine do not lengthen by taking it away. The models are those of ``bench_bundle``. Every cell
is the median over rounds in which all cells take turns, so that a noisy moment of the machine falls
on all of them alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from loadtest.bench_bundle import train_models
from sentinel.dataset import DatasetDescription, load_description
from sentinel.features import FeatureSet, feature_set
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.runtime import TreeModel
from sentinel.transactions import Transactions

BATCHES = (1, 16, 256, 4096)
ROUNDS = 7
ROUND_SECONDS = 0.05
"""Least time a cell runs in each round."""

Step = Callable[[], object]


class Cell(msgspec.Struct, frozen=True):
    """One figure: ``rows_per_s`` in calls of ``rows`` rows, ``call_us`` microseconds a call."""

    step: str
    rows: int
    call_us: float
    rows_per_s: float


def measure_core(on_step: Callable[[str], None] = lambda _: None) -> list[Cell]:
    """Every cell of the table."""
    on_step("training two models to time")
    models = [TreeModel(model) for model in train_models()]
    steps = [
        (name, rows, step)
        for rows in BATCHES
        for name, step in (*_parsing(rows), *_models(rows, *models))
    ]
    times: dict[tuple[str, int], list[float]] = {(name, rows): [] for name, rows, _ in steps}
    for number in range(ROUNDS + 1):
        on_step(f"round {number} of {ROUNDS}" if number else "warming up")
        for name, rows, step in steps:
            seconds = _time(step)
            if number:
                times[name, rows].append(seconds)
    medians = {key: statistics.median(values) for key, values in times.items()}
    return [
        Cell(name, rows, round(1e6 * seconds, 1), round(rows / seconds))
        for (name, rows), seconds in medians.items()
    ]


def core_table(cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: microseconds a call for one row, rows a second for more."""
    names = list(dict.fromkeys(cell.step for cell in cells))
    found = {(cell.step, cell.rows): cell for cell in cells}
    columns = ["step", "1 row, us", *(f"{rows:,} rows, rows/s" for rows in BATCHES[1:])]
    return columns, [
        [
            name,
            f"{found[name, 1].call_us:,.1f}",
            *(f"{found[name, rows].rows_per_s:,}" for rows in BATCHES[1:]),
        ]
        for name in names
    ]


def _time(step: Step) -> float:
    """Seconds a call, over at least ``ROUND_SECONDS``."""
    calls, start = 0, time.process_time()
    while (passed := time.process_time() - start) < ROUND_SECONDS:
        step()
        calls += 1
    return passed / calls


def _rotating(inputs: Sequence[Any], use: Callable[[Any], object]) -> Step:
    """Calls ``use`` on the inputs in turn: the same row again would find everything in cache."""
    turns = cycle(inputs)
    return lambda: use(next(turns))


def _parsing(rows: int) -> Iterator[tuple[str, Step]]:
    for name in ("transactions", "creditcard"):
        description = load_description(name)
        examples = [_example(description, rows, seed) for seed in range(8)]
        bodies, streams = [body for body, _ in examples], [stream for _, stream in examples]
        as_json, as_arrow = JsonParser(description), ArrowParser(description)
        build, fields = feature_set(description), len(description.inputs)
        parse = as_json.one if rows == 1 else as_json.many
        yield f"parse JSON, {fields} fields", _rotating(bodies, parse)
        yield f"parse Arrow, {fields} fields", _rotating(streams, as_arrow.stream)
        parsed = [as_arrow.stream(stream).transactions for stream in streams]
        apart = "" if build.plan is None else ", profiles apart"
        label = f"{len(build.names)} features of {name}{apart}"
        yield label, _rotating(parsed, _features(build, rows))


def _features(build: FeatureSet, rows: int) -> Callable[[Transactions], object]:
    """What a router does; what it is told by profiles is timed by itself (``profile_core``)."""
    if build.plan is None:
        return build
    behaviour = np.zeros((rows, len(build.plan.columns)), np.float32)
    return lambda transactions: build(transactions, behaviour)


def _example(description: DatasetDescription, rows: int, seed: int) -> tuple[bytes, bytes]:
    """The same made-up transactions as JSON (an object where there is one row) and as Arrow."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {}
    for name, spec in description.inputs.items():
        if spec.type == "number":
            columns[name] = np.round(np.abs(rng.normal(0, 50, rows)), 6).tolist()
        elif spec.type == "timestamp":
            seconds = rng.integers(0, 60, rows)
            columns[name] = [f"2018-08-01T10:00:{second:02}Z" for second in seconds]
        else:
            columns[name] = [str(number) for number in rng.integers(0, 100_000, rows)]
    table = pa.table(columns)
    records = table.to_pylist()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return msgspec.json.encode(records if rows > 1 else records[0]), sink.getvalue().to_pybytes()


def _models(rows: int, xgboost: TreeModel, forest: TreeModel) -> Iterator[tuple[str, Step]]:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(rows, 30)).astype(np.float32) for _ in range(8)]
    for name, model in (("XGBoost model", xgboost), ("Isolation Forest", forest)):
        yield f"{name}, by ONNX Runtime", _rotating(inputs, model.margin_small)
        yield f"{name}, by XGBoost", _rotating(inputs, model.margin_large)
        yield f"{name}, as chosen", _rotating(inputs, model.margin)
