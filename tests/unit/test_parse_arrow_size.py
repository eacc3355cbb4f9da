"""A small Arrow stream that stands for gigabytes of text is refused without making them."""

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sentinel.dataset import load_description
from sentinel.errors import InvalidTransactions
from sentinel.parse_arrow import ArrowParser

ROWS = 3_000
LONG = "x" * 2**20
PARSER = ArrowParser(load_description("transactions"))


def stream(customer_id: pa.Array) -> bytes:
    columns: dict[str, Any] = {
        "transaction_id": [str(row) for row in range(ROWS)],
        "timestamp": ["2018-08-01T10:00:00Z"] * ROWS,
        "customer_id": customer_id,
        "terminal_id": ["7"] * ROWS,
        "amount": [1.0] * ROWS,
    }
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def repeating_dictionary(kind: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * ROWS), pa.array([LONG], kind))


def repeating_view() -> pa.Array:
    views = np.zeros((ROWS, 4), dtype="<i4")
    views[:, 0] = len(LONG)
    views[:, 1] = np.frombuffer(b"xxxx", "<i4")[0]
    buffers = [None, pa.py_buffer(views.tobytes()), pa.py_buffer(LONG.encode())]
    return pa.Array.from_buffers(pa.string_view(), ROWS, buffers)


@pytest.mark.parametrize(
    "column",
    [
        repeating_dictionary(pa.string()),
        repeating_dictionary(pa.large_string()),
        repeating_view(),
    ],
    ids=["dictionary", "dictionary of large strings", "string view"],
)
def test_one_long_value_for_every_row_is_refused_as_a_column(column: pa.Array) -> None:
    body = stream(column)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(InvalidTransactions, match="customer_id is '3,145,728,000 bytes of text'"):
        PARSER.stream(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + pa.total_allocated_bytes() - before < 64 * 2**20


def test_a_dictionary_of_ordinary_values_is_read() -> None:
    names = [str(row % 50) for row in range(ROWS)]
    parsed = PARSER.stream(stream(pa.array(names).dictionary_encode()))
    assert parsed.transactions.entities["customer_id"].to_pylist() == names


def test_one_value_too_long_refuses_its_row_alone() -> None:
    names = pa.array(["ok"] * (ROWS - 1) + [LONG[:5_000]])
    parsed = PARSER.stream(stream(names.dictionary_encode()))
    assert [error.index for error in parsed.errors] == [ROWS - 1]
