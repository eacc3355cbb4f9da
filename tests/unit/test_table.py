"""A table that a model could not honestly be trained on is refused with one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from sentinel.dataset import load_description
from sentinel.errors import TableError, UsageError
from sentinel.table import LabelledTable, read_table

TRANSACTIONS = load_description("transactions")
ROW_ORDERED = load_description("creditcard")


def columns(rows: int = 6) -> dict[str, Any]:
    return {
        "transaction_id": [f"t{n}" for n in range(rows)],
        "timestamp": pa.array(np.arange(rows) * 3600, pa.timestamp("s", tz="UTC")),
        "customer_id": np.arange(rows) % 3,
        "terminal_id": ["a"] * rows,
        "amount": np.linspace(0, 50, rows),
        "is_fraud": (np.arange(rows) % 3 == 2).astype(np.int8),
    }


def written(folder: Path, **changed: Any) -> str:
    table = {
        name: column for name, column in {**columns(), **changed}.items() if column is not None
    }
    file = folder / "table.parquet"
    pq.write_table(pa.table(table), file)
    return str(file)


def test_a_good_table_is_read_whole(tmp_path: Path) -> None:
    read = read_table(written(tmp_path), TRANSACTIONS)
    assert (len(read), read.frauds) == (6, 2)
    assert read.transactions.entities["customer_id"].to_pylist() == list("012012")
    assert read.time_of(5) == "1970-01-01T05:00:00+00:00"


def test_the_handbooks_column_names_are_read_too(tmp_path: Path) -> None:
    names = dict(
        zip(columns(), ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT",
                        "TX_FRAUD"], strict=True)
    )  # fmt: skip
    file = tmp_path / "handbook.parquet"
    pq.write_table(pa.table({names[name]: column for name, column in columns().items()}), file)
    assert same(read_table(str(file), TRANSACTIONS), read_table(written(tmp_path), TRANSACTIONS))


def test_csv_holds_the_same_rows_as_parquet(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    pyarrow.csv.write_csv(pa.table(columns()), file)
    assert same(read_table(str(file), TRANSACTIONS), read_table(written(tmp_path), TRANSACTIONS))


def same(one: LabelledTable, other: LabelledTable) -> bool:
    return one.sha256() == other.sha256() and one.transactions.ids == other.transactions.ids


def test_a_table_needs_no_id_column(tmp_path: Path) -> None:
    read = read_table(written(tmp_path, transaction_id=None), TRANSACTIONS)
    assert read.transactions.ids.to_pylist() == list("012345")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"amount": None}, ["no column amount or TX_AMOUNT", "what was paid"]),
        ({"is_fraud": None}, ["no column is_fraud or TX_FRAUD"]),
        ({"timestamp": None}, ["no column timestamp or TX_DATETIME"]),
        ({"amount": ["x"] * 6}, ["amount is 'string'", "finite number"]),
        ({"amount": [1.0, 2, None, 4, 5, 6]}, ["row 2", "amount is None"]),
        ({"amount": [1.0, 2, 3, float("nan"), 5, 6]}, ["row 3", "'NaN'"]),
        ({"amount": [1.0, 2, 3, -4, 5, 6]}, ["row 3", "-4.0", "0 or more"]),
        ({"is_fraud": [0, 1, 2, 0, 0, 1]}, ["row 2", "is_fraud is 2", "0 or 1"]),
        ({"is_fraud": [0, 1, float("nan"), 0, 0, 1]}, ["row 2", "is_fraud is nan"]),
        ({"is_fraud": [0, 1, None, 0, 0, 1]}, ["row 2", "is_fraud is None"]),
        ({"is_fraud": ["0"] * 6}, ["is_fraud is string", "0 and 1"]),
        ({"is_fraud": [0] * 6}, ["all 6 rows are legitimate"]),
        ({"is_fraud": [1] * 6}, ["all 6 rows are fraud"]),
        ({"transaction_id": ["a", "b", "c", "b", "d", "e"]}, ["'b' stands in 2 rows"]),
        ({"transaction_id": ["a", "b", None, "c", "d", "e"]}, ["row 2", "transaction_id is None"]),
        ({"timestamp": pa.array([0, 1, 5, 4, 6, 7], pa.timestamp("s"))}, ["row 3", "goes back"]),
        ({"timestamp": [1, 2, 3, 4, 5, 6]}, ["timestamp is 'int64'"]),
        ({"TX_AMOUNT": [1.0] * 6}, ["amount and TX_AMOUNT are both"]),
    ],
)
def test_a_bad_table_is_refused_by_one_line_that_names_the_fault(
    tmp_path: Path, changed: dict[str, Any], words: list[str]
) -> None:
    file = written(tmp_path, **changed)
    with pytest.raises(TableError) as refused:
        read_table(file, TRANSACTIONS)
    text = str(refused.value)
    assert text.startswith(file)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"PAR1 but nothing else", "cannot be read"),
        (b"\x00\x01\x02" * 100, "neither Parquet nor CSV"),
        (b"\xff\xfe\xfa,b\n1,2\n", "there is no column|cannot be read"),
        (b"transaction_id,timestamp,customer_id,terminal_id,amount,is_fraud\n", "has no rows"),
        (b"just some words\nand more\n", "there is no column"),
        (
            b"transaction_id,timestamp,customer_id,terminal_id,amount,is_fraud\n"
            b"a,2018-08-01T10:00:00Z,1,1,ten,0\n",
            "cannot be read.*ten",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(
    tmp_path: Path, content: bytes | None, word: str
) -> None:
    file = tmp_path / "table.parquet"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TableError, match=word):
        read_table(str(file), TRANSACTIONS)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is no file"):
        read_table(str(tmp_path), TRANSACTIONS)


@pytest.mark.parametrize(
    ("since", "until", "rows"),
    [
        (None, None, [0, 1, 2, 3, 4, 5]),
        ("1970-01-01T02:00:00Z", None, [2, 3, 4, 5]),
        (None, "1970-01-01T03:00:00+00:00", [0, 1, 2]),
        ("1970-01-01T02:00:00+01:00", "1970-01-01T04:00:00", [1, 2, 3]),
        ("1970-01-01", "1970-01-02", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rows_are_taken_from_a_time_until_before_another(
    tmp_path: Path, since: str | None, until: str | None, rows: list[int]
) -> None:
    read = read_table(written(tmp_path), TRANSACTIONS, since, until)
    assert read.transactions.ids.to_pylist() == [f"t{row}" for row in rows]


def test_without_a_time_bounds_are_fractions_that_share_the_rows_out(creditcard_file: Path) -> None:
    file = str(creditcard_file)
    whole = read_table(file, ROW_ORDERED)
    first = read_table(file, ROW_ORDERED, until="0.8")
    last = read_table(file, ROW_ORDERED, since="0.8")
    assert len(first) + len(last) == len(whole)
    assert last.transactions.ids[0].as_py() == str(len(first))


@pytest.mark.parametrize("bound", ["yesterday", "2018-13-01", ""])
def test_a_bound_that_is_no_time_is_refused(tmp_path: Path, bound: str) -> None:
    with pytest.raises(UsageError, match="expected a date or time"):
        read_table(written(tmp_path), TRANSACTIONS, since=bound)


@pytest.mark.parametrize("bound", ["2018-08-01", "80%", "1.5", "nan"])
def test_a_bound_that_is_no_fraction_is_refused(creditcard_file: Path, bound: str) -> None:
    with pytest.raises(UsageError, match="fraction 0 to 1"):
        read_table(str(creditcard_file), ROW_ORDERED, until=bound)


def test_bounds_that_leave_no_row_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no rows from 2018-08-01 until the end"):
        read_table(written(tmp_path), TRANSACTIONS, since="2018-08-01")


def test_ids_may_be_a_dictionary_as_categories_are_written(tmp_path: Path) -> None:
    ids = pa.array([f"t{n}" for n in range(6)]).dictionary_encode()
    read = read_table(written(tmp_path, transaction_id=ids), TRANSACTIONS)
    assert read.transactions.ids.to_pylist() == [f"t{n}" for n in range(6)]
