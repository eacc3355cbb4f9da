"""What the service answers is what the same bundle says offline."""

import io
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from sentinel.answers import ARROW
from tests.serve.serving import Row, Served, assert_same_answer, offline

SAME_RUNTIME = 1e-9
"""Both sides ran the same library on the same rows."""
OTHER_RUNTIME = 1e-6
"""More rows than ``runtime.SMALL_BATCH`` may run by another library here than there."""


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def answered(served: Served, table: pa.Table) -> pa.Table:
    answer = served.client.post(
        "/predict/batch", content=arrow(table), headers={"content-type": ARROW}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_stream(answer.content).read_all()


@pytest.mark.parametrize("at", [0, 17, 500])
def test_one_transaction_has_the_answer_of_offline_scoring(
    served: Served, rows: list[Row], at: int
) -> None:
    (expected,) = offline(served.bundle, [rows[at]])
    assert_same_answer(served.predict(rows[at]), expected, SAME_RUNTIME)
    assert not expected["degraded"]


def test_a_fraud_is_not_approved_and_says_why(served: Served, rows: list[Row]) -> None:
    large = {**rows[0], "amount": 5_000}  # far above what anyone in the table pays honestly
    answer = served.predict(large)
    assert answer["decision"] in ("review", "block")
    assert answer["reasons"]


@pytest.mark.parametrize("size", [1, 16, 17, 1_000])
def test_a_json_batch_has_the_answers_of_offline_scoring_in_order(
    served: Served, rows: list[Row], size: int
) -> None:
    answer = served.predict_batch(rows[:size])
    assert answer["errors"] == []
    expected = offline(served.bundle, rows[:size])
    assert len(answer["results"]) == size
    for got, wanted in zip(answer["results"], expected, strict=True):
        assert_same_answer(got, wanted, OTHER_RUNTIME)


def test_an_empty_batch_has_an_empty_answer(served: Served) -> None:
    assert served.predict_batch([]) == {"results": [], "errors": []}


def test_bad_rows_of_a_json_batch_are_named_and_the_good_ones_answered(
    served: Served, rows: list[Row]
) -> None:
    answer = served.predict_batch([rows[0], {**rows[1], "amount": -1}, 7, rows[2]])
    ids = [result["transaction_id"] for result in answer["results"]]
    assert ids == [rows[0]["transaction_id"], rows[2]["transaction_id"]]
    assert [(error["index"], error["field"]) for error in answer["errors"]] == [
        (1, "amount"),
        (2, ""),
    ]
    assert answer["errors"][0]["value"] == -1
    assert answer["errors"][0]["expected"]


def test_an_arrow_batch_has_the_answers_of_offline_scoring_in_order(
    served: Served, rows: list[Row]
) -> None:
    answer = answered(served, pa.Table.from_pylist([dict(row) for row in rows])).to_pylist()
    for got, wanted in zip(answer, offline(served.bundle, rows), strict=True):
        assert got.pop("error") is None
        assert_same_answer(got, wanted, OTHER_RUNTIME)


def test_an_arrow_batch_may_have_other_types_more_columns_and_another_order(
    served: Served, rows: list[Row]
) -> None:
    row = rows[0]
    moment = datetime.fromisoformat(row["timestamp"]).astimezone(UTC)
    table = pa.table(
        {
            "amount": pa.array([row["amount"]], pa.float64()),
            "colour": ["red"],
            "terminal_id": pa.array([int(row["terminal_id"])], pa.int16()),
            "customer_id": pa.array([row["customer_id"]]).dictionary_encode(),
            "timestamp": pa.array([moment], pa.timestamp("ms", "Europe/Brussels")),
            "transaction_id": pa.array([row["transaction_id"]], pa.large_string()),
        }
    )
    (got,) = answered(served, table).to_pylist()
    assert got.pop("error") is None
    assert_same_answer(got, offline(served.bundle, [row])[0], SAME_RUNTIME)


def test_a_bad_row_of_an_arrow_batch_has_only_its_error(served: Served, rows: list[Row]) -> None:
    table = pa.Table.from_pylist([dict(rows[0]), {**rows[1], "amount": -1}, dict(rows[2])])
    first, bad, last = answered(served, table).to_pylist()
    assert first["error"] is None
    assert last["error"] is None
    assert "amount" in bad.pop("error")
    assert set(bad.values()) == {None}


def test_fields_that_the_bundle_does_not_know_are_ignored(served: Served, rows: list[Row]) -> None:
    with_more = {**rows[0], "merchant": {"name": "x", "tags": ["a", "b"]}}
    assert served.predict(with_more) == served.predict(rows[0])


def test_the_same_transaction_has_the_same_answer(served: Served, rows: list[Row]) -> None:
    assert served.predict(rows[3]) == served.predict(rows[3])
