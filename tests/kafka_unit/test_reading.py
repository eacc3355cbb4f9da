"""Records to transactions, and the reasons of those that are none."""

import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import Message

from kafka_ingest.outgoing import Counts, counts_of
from kafka_ingest.reading import MAX_BYTES, RecordReader, dead_letter, is_arrow
from sentinel.answers import ARROW
from sentinel.dataset import load_description
from sentinel.stream_exchange import contract_of

ROW = {
    "transaction_id": "t0",
    "timestamp": "2018-08-01T10:00:00Z",
    "customer_id": "42",
    "terminal_id": "7",
    "amount": 57.16,
}
READER = RecordReader(contract_of(load_description("transactions")))


def record(value: bytes | None, at: int = 0, headers: dict[str, bytes] | None = None) -> Message:
    """As the client hands one over."""
    return Message(
        topic="in",
        partition=0,
        offset=at,
        key=b"k",
        value=value,
        headers=list((headers or {}).items()),
    )


def numbered(count: int, **changes: object) -> list[dict[str, object]]:
    return [{**ROW, "transaction_id": f"t{at}", **changes} for at in range(count)]


def arrow(rows: list[dict[str, object]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_plain_and_other_records_keep_their_order() -> None:
    rows = numbered(6)
    values = [msgspec.json.encode(row) for row in rows]
    values[2] = msgspec.json.encode({**rows[2], "more": "ignored"})
    values[4] = msgspec.json.encode({**rows[4], "customer_id": "Zoë"})
    read = READER.read([record(value, at) for at, value in enumerate(values)])
    assert read.transactions.ids.to_pylist() == [row["transaction_id"] for row in rows]
    assert read.sources.tolist() == list(range(6))
    assert not read.refused


def test_a_stream_among_plain_records_keeps_its_place() -> None:
    first, *inside, last = numbered(5)
    headers = {"Content-Type": ARROW.encode() + b"; v=1"}
    read = READER.read(
        [
            record(msgspec.json.encode(first)),
            record(arrow([*inside, {**ROW, "amount": -1.0}]), 1, headers),
            record(msgspec.json.encode(last), 2),
        ]
    )
    assert read.transactions.ids.to_pylist() == ["t0", "t1", "t2", "t3", "t4"]
    assert read.sources.tolist() == [0, 1, 1, 1, 2]
    assert read.within.tolist() == [0, 0, 1, 2, 0]
    letter = dead_letter(read.messages[1], read.refused[1])
    assert letter.reason.startswith("row 3: amount is -1.0, expected")
    assert msgspec.json.decode(letter.rows)[0]["index"] == 3


def test_records_that_would_make_others_of_their_neighbours_are_bad_by_themselves() -> None:
    good = msgspec.json.encode(ROW)
    values = [good + b"," + good, b'{"transaction_id":"a', b'b"}', good]
    read = READER.read([record(value, at) for at, value in enumerate(values)])
    assert sorted(read.refused) == [0, 1, 2]
    assert read.sources.tolist() == [3]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it is empty"),
        (b"", "it is empty"),
        (b"[]", "expected an object"),
        (b"null", "it is None, expected an object"),
        (b"x" * (MAX_BYTES + 1), "expected at most 1,048,576"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_the_reason_of_a_dead_letter(value: bytes | None, reason: str) -> None:
    read = READER.read([record(value)])
    letter = dead_letter(read.messages[0], read.refused[0])
    assert reason in letter.reason
    assert letter.value == value
    assert dict(letter.headers())["offset"] == b"0"


def test_only_the_header_tells_an_arrow_stream() -> None:
    assert not is_arrow(None)
    assert not is_arrow([("content-type", b"application/json")])
    assert is_arrow([("CONTENT-TYPE", ARROW)])
    assert READER.read([record(arrow(numbered(2)))]).refused.keys() == {0}


def test_counts_lie_beside_an_offset_and_others_metadata_is_none() -> None:
    counts = Counts(5, 4, 1)
    assert counts_of(counts.text()) == counts
    assert counts + counts - counts == counts
    for other in (None, "", "made by hand", "[]"):
        assert counts_of(other) == Counts()
