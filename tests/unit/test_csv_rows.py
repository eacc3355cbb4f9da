"""In a CSV file a bad cell costs its row and no more."""

import pyarrow as pa
import pytest

from sentinel.csv_rows import CsvParser, header_of
from sentinel.dataset import load_description, parse_description
from sentinel.errors import TableError
from sentinel.fields import moment
from sentinel.parsing import Parsed

HEADER = ("transaction_id", "timestamp", "customer_id", "terminal_id", "amount")
PARSER = CsvParser(load_description("transactions"))


def rows(*lines: str | bytes, header: tuple[str, ...] = HEADER) -> Parsed:
    text = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return PARSER.rows(text, header, "file.csv", 0)


def good(name: str = "a") -> str:
    return f"{name},2018-08-01T10:00:00Z,1,2,3.5"


def test_good_rows_are_read() -> None:
    read = rows(good("a"), good("b"))
    assert read.transactions.ids.to_pylist() == ["a", "b"]
    assert read.transactions.numbers[:, 0].tolist() == [3.5, 3.5]
    assert not read.errors


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("x,2018-08-01T10:00:00Z,1,2,ten", "row 1: amount is 'ten', expected a finite number"),
        ("x,2018-08-01T10:00:00Z,1,2,", "row 1: amount is None, expected a finite number"),
        ("x,2018-08-01T10:00:00Z,1,2,-3", "row 1: amount is -3.0, expected"),
        ("x,yesterday,1,2,3", "row 1: timestamp is 'yesterday', expected an RFC 3339 date"),
        ("x,2018-08-01T10:00:00Z,,2,3", "row 1: customer_id is '', expected a string of 1"),
        ("x,2018-08-01T10:00:00Z,1,2", "row 1: it is 'x,2018-08-01T10:00:00Z,1,2', expected 5 c"),
        ("x,2018-08-01T10:00:00Z,1,2,3,4", "expected 5 cells, as in the header; there are 6"),
        (
            b"x,2018-08-01T10:00:00Z,\xff,2,3",
            "row 1: customer_id is \"b'\\\\xff'\"",
        ),
    ],
)
def test_a_bad_cell_is_the_error_of_its_row_alone(line: str | bytes, error: str) -> None:
    read = rows(good("a"), line, good("b"))
    assert read.transactions.ids.to_pylist() == ["a", "b"]
    assert read.rows.tolist() == [0, 2]
    assert read.count == 3
    (first,) = read.first_errors()
    assert error in str(first)


@pytest.mark.parametrize(
    "text",
    ["2018-08-01T10:00:00Z", "2018-08-01 10:00:00", "2018-08-01T12:00:00+02:00",
     "2018-08-01T10:00:00.000000499Z", " 2018-08-01T10:00 "],
)  # fmt: skip
def test_times_may_have_a_zone_or_be_utc_and_may_be_mixed(text: str) -> None:
    line = f"x,{text},1,2,3"
    for read in (rows(line), rows(line, good()), rows(line, "y,2018-08-01,1,2,3", good())):
        times = read.transactions.times
        assert times is not None
        assert moment(int(times[0])).isoformat() == "2018-08-01T10:00:00+00:00"


def test_rows_without_an_id_column_are_numbered_in_the_whole_input() -> None:
    text = b"2018-08-01T10:00:00Z,1,2,3.5\n"
    assert PARSER.rows(text, HEADER[1:], "f", 70).transactions.ids.to_pylist() == ["70"]


def test_a_cell_may_hold_a_newline_and_empty_lines_are_no_rows() -> None:
    read = rows('"a\nb",2018-08-01T10:00:00Z,1,2,3', "", "short", good())
    assert read.transactions.ids.to_pylist() == ["a\nb", "a"]
    assert read.rows.tolist() == [0, 2]


def test_a_piece_may_hold_no_good_row_at_all() -> None:
    assert rows("short").count == 1
    assert rows("").count == 0
    assert len(rows("short").transactions) == 0


def test_a_missing_column_is_refused_at_once() -> None:
    with pytest.raises(TableError, match=r"file\.csv: there is no column amount or TX_AMOUNT"):
        rows("a", header=("transaction_id", "timestamp", "customer_id", "terminal_id"))


def test_the_label_and_other_columns_are_not_looked_at() -> None:
    read = rows(good() + ",maybe,x", header=(*HEADER, "is_fraud", "note"))
    assert not read.errors


def test_what_may_be_missing_may_still_not_be_nonsense() -> None:
    description = parse_description(
        """
name: small
summary: optional fields
id: transaction_id
time: row_order
label: fraud
amount: paid
fields:
  transaction_id: {type: string, meaning: the id}
  paid: {type: number, minimum: 0, meaning: the amount}
  tip: {type: number, optional: true, meaning: on top}
  online: {type: boolean, optional: true, meaning: no card was there}
  fraud: {type: label, meaning: the label}
features: [paid, tip, online]
""",
        "small",
    )
    text = b"a,1,,\nb,1,much,true\nc,1,2,perhaps\nd,1,NaN,FALSE\n"
    read = CsvParser(description).rows(text, ("transaction_id", "paid", "tip", "online"), "f", 0)
    assert read.transactions.ids.to_pylist() == ["a", "d"]
    assert [(e.index, e.field, e.value) for e in read.errors] == [
        (1, "tip", "much"), (2, "online", "perhaps"),
    ]  # fmt: skip


def test_a_header_may_have_a_byte_order_mark_and_quotes() -> None:
    assert header_of(b'\xef\xbb\xbf"a b",c\n') == ("a b", "c")
    with pytest.raises((pa.ArrowException, UnicodeDecodeError)):
        header_of(b"\xff,b\n")
