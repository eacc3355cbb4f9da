"""What is sent to the contenders, and what they must answer to it.

Each is sent the same transactions of 30 numeric features, in its own dialect. They are repeated as
they are: the bundle has no profiles, and so no identity.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from loadtest.answer_check import check_near, post
from loadtest.bare_judge import FIELDS
from loadtest.bench_bundle import random_values
from loadtest.cells import ARROW_1000, JSON_1000, SINGLE_1, SINGLE_64, SINGLE_128, Shape
from loadtest.contenders import Contender
from loadtest.dialects import Dialect
from loadtest.templates import Template
from sentinel.answers import ARROW, JSON, answers
from sentinel.bundle import open_bundle
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline

SINGLES = (SINGLE_1, SINGLE_64)
SHAPES = (*SINGLES, SINGLE_128, JSON_1000, ARROW_1000)
BODIES, BATCHES = 256, 8
"""Different bodies that are sent in turn, of one transaction and of a thousand."""

CHECKED = 50


def shapes_of(contender: Contender) -> Sequence[Shape]:
    """What it is measured at."""
    return SHAPES if contender.batches else SINGLES


def path_of(contender: Contender, shape: Shape) -> str:
    """Where it takes that."""
    return contender.dialect.path if shape.rows == 1 else shape.path


def bodies_for(contender: Contender, shape: Shape) -> list[Template]:
    """What is sent to it, in turn."""
    return _bodies(contender.dialect, shape.kind, shape.rows)


def transactions(count: int, seed: int) -> list[dict[str, Any]]:
    """Made-up ones, by field."""
    return [
        {"transaction_id": f"b{seed}-{at}", **dict(zip(FIELDS, row, strict=True))}
        for at, row in enumerate(random_values(count, 100 + seed).tolist())
    ]


def check_answers(contender: Contender, url: str, bundle: str) -> None:
    """:raises WrongAnswer: an answer is not that of offline scoring."""
    rows = transactions(CHECKED, 99)
    opened = open_bundle(bundle)
    judge = opened.judge()
    parsed = JsonParser(judge.description).many(msgspec.json.encode(rows)).all_or_raise()
    expected = answers(score_offline(judge, opened.lanes(), parsed))
    dialect = contender.dialect
    bodies = (post(url, dialect.path, JSON, dialect.encode(row)) for row in rows)
    check_near(contender.name, [dialect.decode(body) for body in bodies], expected)
    if contender.batches:
        sent = post(url, JSON_1000.path, JSON, msgspec.json.encode(rows))
        check_near(contender.name, msgspec.json.decode(sent)["results"], expected)
        stream = pa.ipc.open_stream(post(url, ARROW_1000.path, ARROW, arrow_body(rows)))
        check_near(contender.name, stream.read_all().to_pylist(), expected)


@cache
def _bodies(dialect: Dialect, kind: str, rows: int) -> list[Template]:
    if rows == 1:
        return [Template.fixed(dialect.encode(row)) for row in transactions(BODIES, 0)]
    encode = arrow_body if kind == ARROW else msgspec.json.encode
    return [Template.fixed(encode(transactions(rows, 1 + at))) for at in range(BATCHES)]


def arrow_body(rows: list[dict[str, Any]]) -> bytes:
    """An Arrow stream of these transactions."""
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
