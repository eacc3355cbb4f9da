"""Bad input is refused with a problem that says what was wrong; it is never an error of ours."""

import io
import json
from typing import Any

import httpx
import pyarrow as pa
import pytest

from sentinel.answers import ARROW, JSON
from serve_app.bodies import MAX_BATCH_BODY, MAX_BODY, MAX_ROWS
from tests.serve.serving import Row, Served


def post(
    served: Served, body: bytes, kind: str | None = JSON, path: str = "/predict", **headers: str
) -> httpx.Response:
    if kind is not None:
        headers["content-type"] = kind
    return served.client.post(path, content=body, headers=headers)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert content.keys() >= {"type", "title", "detail"}
    return content


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def stream_of(rows: list[dict[str, Any]]) -> bytes:
    return stream(pa.Table.from_pylist(rows))


MALFORMED = [b"", b"{", b'{"amount": 1,}', b'{"amount": "\xff"}', b"[" * 5_000 + b"]" * 5_000]


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_json_is_a_400(served: Served, body: bytes) -> None:
    problem(post(served, body), 400)
    problem(post(served, body, path="/predict/batch"), 400)


@pytest.mark.parametrize("body", [b"", b"ARROW1", b"\xff\xff\xff\xff\x00\x01\x00\x00", b"[]"])
def test_malformed_arrow_is_a_400(served: Served, body: bytes) -> None:
    problem(post(served, body, ARROW, "/predict/batch"), 400)


def test_a_truncated_arrow_stream_is_a_400(served: Served, rows: list[Row]) -> None:
    body = stream(pa.Table.from_pylist([dict(row) for row in rows[:50]]))
    problem(post(served, body[: len(body) // 2], ARROW, "/predict/batch"), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "12"),
        ("amount", True),
        ("amount", None),
        ("amount", -0.01),
        ("amount", [1]),
        ("timestamp", "yesterday"),
        ("timestamp", "2018-08-01T10:00:00"),
        ("timestamp", 5),
        ("customer_id", ""),
        ("customer_id", 42),
        ("terminal_id", "x" * 257),
        ("transaction_id", None),
    ],
)
def test_a_bad_field_is_a_422_that_names_it(
    served: Served, rows: list[Row], field: str, value: Any
) -> None:
    answer = post(served, json.dumps({**rows[0], field: value}).encode())
    content = problem(answer, 422)
    assert content["field"] == field
    assert field in content["detail"]
    assert content["expected"]
    if isinstance(value, str | float) and len(str(value)) < 100:
        assert content["value"] == value


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_number_that_is_none_is_a_422(served: Served, rows: list[Row], literal: str) -> None:
    body = json.dumps({**rows[0], "amount": 1234.5}).replace("1234.5", literal)
    content = problem(post(served, body.encode()), 422)
    assert (content["field"], content["value"]) == ("amount", literal)


def test_all_bad_fields_of_a_transaction_are_reported(served: Served) -> None:
    content = problem(post(served, b'{"transaction_id": "t1", "amount": -5}'), 422)
    bad = {error["field"]: error["value"] for error in content["errors"]}
    assert bad == {"timestamp": None, "customer_id": None, "terminal_id": None, "amount": -5}
    assert all("index" not in error for error in content["errors"])
    assert all("missing" in e["expected"] for e in content["errors"] if e["value"] is None)


@pytest.mark.parametrize("body", [b"[]", b"3", b'"text"', b"null"])
def test_what_is_no_transaction_is_a_422(served: Served, body: bytes) -> None:
    content = problem(post(served, body), 422)
    assert "an object with the fields" in content["expected"]


@pytest.mark.parametrize("body", [b"{}", b"3", b"null"])
def test_what_is_no_list_is_a_422(served: Served, body: bytes) -> None:
    content = problem(post(served, body, path="/predict/batch"), 422)
    assert content["expected"] == "a list of transactions"


def test_a_missing_arrow_column_is_a_422(served: Served, rows: list[Row]) -> None:
    table = pa.Table.from_pylist([dict(row) for row in rows[:3]]).drop_columns(["amount"])
    content = problem(post(served, stream(table), ARROW, "/predict/batch"), 422)
    assert content["field"] == "amount"
    assert "index" not in content["errors"][0]


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "nonsense", "application/jsonp", ""],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_another_media_type_is_a_415(served: Served, kind: str, path: str) -> None:
    content = problem(post(served, b"{}", kind, path), 415)
    assert JSON in content["accepted"]


def test_arrow_is_a_415_where_one_transaction_is_expected(served: Served) -> None:
    problem(post(served, b"", ARROW), 415)


def test_another_charset_and_a_compressed_body_are_a_415(served: Served) -> None:
    problem(post(served, b"{}", "application/json; charset=utf-16"), 415)
    problem(post(served, b"{}", **{"content-encoding": "gzip"}), 415)


@pytest.mark.parametrize(
    "kind", [None, "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
def test_json_by_any_of_its_names_is_read(
    served: Served, rows: list[Row], kind: str | None
) -> None:
    assert post(served, json.dumps(rows[0]).encode(), kind).status_code == 200


@pytest.mark.parametrize(
    ("path", "limit"), [("/predict", MAX_BODY), ("/predict/batch", MAX_BATCH_BODY)]
)
def test_a_body_over_the_limit_is_a_413(served: Served, path: str, limit: int) -> None:
    content = problem(post(served, b" " * (limit + 1), path=path), 413)
    assert content["limit_bytes"] == limit


def test_a_body_that_does_not_state_its_length_is_held_to_the_limit(served: Served) -> None:
    def endless() -> Any:
        for _ in range(MAX_BODY // 1000 + 2):
            yield b" " * 1000

    answer = served.client.post("/predict", content=endless(), headers={"content-type": JSON})
    problem(answer, 413)


def test_more_rows_than_the_limit_are_a_413(served: Served) -> None:
    zeros = b"[" + b"0," * MAX_ROWS + b"0]"
    content = problem(post(served, zeros, path="/predict/batch"), 413)
    assert content["limit_rows"] == MAX_ROWS
    many = b"[" + b"0," * 10_000_000 + b"0]"
    problem(post(served, many, path="/predict/batch"), 413)


def test_a_few_arrow_bytes_that_stand_for_many_rows_are_a_413(served: Served) -> None:
    body = stream(pa.table({"amount": pa.nulls(10**9)}))
    assert len(body) < 1_000
    content = problem(post(served, body, ARROW, "/predict/batch"), 413)
    assert content["limit_rows"] == MAX_ROWS


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_arrow_stream_is_held_to_the_limit_of_its_content(
    served: Served, rows: list[Row], compression: str
) -> None:
    table = pa.Table.from_pylist([dict(row) for row in rows])
    answer = post(served, stream(table, compression), ARROW, "/predict/batch")
    assert answer.status_code == 200
    bomb = stream(pa.table({"amount": pa.array(["x" * 2_000] * 50_000)}), compression)
    assert len(bomb) < MAX_BATCH_BODY
    problem(post(served, bomb, ARROW, "/predict/batch"), 413)


def test_other_paths_and_methods_are_problems_too(served: Served) -> None:
    problem(served.client.get("/nothing"), 404)
    problem(served.client.get("/predict"), 405)
