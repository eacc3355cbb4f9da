"""Files are found, told apart and cut into pieces that hold every row once."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from sentinel import input_files
from sentinel.dataset import load_description
from sentinel.errors import TableError, UsageError
from sentinel.input_files import RowReader, check_files, find_files, fingerprint
from sentinel.row_tables import to_transactions
from tests.unit.test_table import columns

TRANSACTIONS = load_description("transactions")


def parquet(file: Path, rows: int = 6, **changed: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {k: v for k, v in {**columns(rows), **changed}.items() if v is not None}
    pq.write_table(pa.table(table), file)
    return file


def csv(file: Path, rows: int = 6) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(pa.table(columns(rows)), file)
    return file


def names(*places: object) -> list[str]:
    return [Path(file.path).name for file in find_files([str(place) for place in places])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parquet(tmp_path / "b.parquet")
    csv(tmp_path / "a.csv")
    parquet(tmp_path / "deep" / "er" / "c.pq")
    parquet(tmp_path / "_hidden" / "d.parquet")
    parquet(tmp_path / ".e.parquet")
    (tmp_path / "notes.txt").write_text("nothing")
    return tmp_path


def test_a_folder_is_its_tables_by_name_at_any_depth(folder: Path) -> None:
    assert names(folder) == ["a.csv", "b.parquet", "c.pq"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.csv", ["a.csv"]),
        ("*", ["a.csv", "b.parquet", "c.pq", "notes.txt"]),
        ("?.parquet", ["b.parquet"]),
        ("[ab].*", ["a.csv", "b.parquet"]),
        ("[!a].*", ["b.parquet"]),
        ("**/*.p*", ["b.parquet", "c.pq"]),
        ("d*/er/*", ["c.pq"]),
    ],
)
def test_a_glob_is_what_it_matches(folder: Path, glob: str, found: list[str]) -> None:
    assert names(folder / glob) == found
    if "?" not in glob and "[" not in glob:  # which mean something else in a URI
        assert names(f"file://{folder}/{glob}") == found


def test_files_stay_in_the_given_order_and_may_be_uris(folder: Path) -> None:
    assert names(folder / "b.parquet", f"file://{folder}/a.csv") == ["b.parquet", "a.csv"]


def test_the_same_file_twice_is_wrong_use(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"b.parquet is named 2 times"):
        find_files([str(folder / "b.parquet"), str(folder / "b*")])


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("none.csv", None, "there is no such file"),
        ("n*e", None, "there are no files"),
        ("empty.csv", b"", "is empty"),
        ("zip.csv", b"PK\x00\x00", "neither Parquet nor CSV"),
        ("http://x/y", None, "Unrecognized filesystem"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes | None, word: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    place = name if "://" in name else str(tmp_path / name)
    with pytest.raises(TableError, match=word):
        find_files([place])


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there are no files that end in"):
        find_files([str(tmp_path)])


def ids(folder: Path, *files: Path) -> list[str]:
    """The ids of all rows, read piece by piece."""
    reader = RowReader(TRANSACTIONS)
    found: list[str] = []
    for piece in check_files(find_files([str(file) for file in files]), TRANSACTIONS):
        for table in reader.tables(piece, len(found)):
            assert table.column("row")[0].as_py() == len(found)
            found += to_transactions(table, TRANSACTIONS).ids.to_pylist()
    return found


def test_pieces_hold_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "PIECE_ROWS", 7)
    monkeypatch.setattr(input_files, "PIECE_BYTES", 150)
    whole = [f"t{n}" for n in range(1000)]
    assert ids(tmp_path, parquet(tmp_path / "a.parquet", 1000)) == whole
    assert ids(tmp_path, csv(tmp_path / "a.csv", 1000)) == whole


def test_rows_without_ids_are_numbered_over_all_files(tmp_path: Path) -> None:
    one = parquet(tmp_path / "a.parquet", 3, transaction_id=None)
    other = parquet(tmp_path / "b.parquet", 2, transaction_id=None)
    assert ids(tmp_path, one, other) == ["0", "1", "2", "3", "4"]


def test_a_newline_between_quotes_does_not_end_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "PIECE_BYTES", 200)
    file = tmp_path / "a.csv"
    table = columns(50) | {"transaction_id": [f"t\n\n{n}" for n in range(50)]}
    pyarrow.csv.write_csv(pa.table(table), file)
    assert ids(tmp_path, file) == table["transaction_id"]


def test_a_quote_too_many_costs_its_piece_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "PIECE_BYTES", 300)
    file = csv(tmp_path / "a.csv", 100)
    file.write_text(file.read_text().replace('"t50"', '"t50'))
    assert ids(tmp_path, file)[-40:] == [f"t{n}" for n in range(60, 100)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"amount": None}, "there is no column amount or TX_AMOUNT"),
        ({"amount": ["x"] * 6}, "amount is 'string', expected a column whose values are each"),
        ({"timestamp": [1] * 6}, "timestamp is 'int64'"),
        ({"TX_AMOUNT": [1.0] * 6}, "amount and TX_AMOUNT are both"),
    ],
)
def test_a_column_that_cannot_be_used_is_found_before_any_row_is_read(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    file = parquet(tmp_path / "a.parquet", **changed)
    with pytest.raises(TableError, match=words):
        check_files(find_files([str(file)]), TRANSACTIONS)


def test_a_label_is_not_needed_nor_looked_at(tmp_path: Path) -> None:
    assert len(ids(tmp_path, parquet(tmp_path / "a.parquet", is_fraud=None))) == 6
    assert len(ids(tmp_path, parquet(tmp_path / "b.parquet", is_fraud=["?"] * 6))) == 6


def test_a_file_that_was_changed_has_another_fingerprint(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet")
    before = fingerprint(find_files([str(file)]))
    assert fingerprint(find_files([str(file)])) == before
    parquet(file, 7)
    assert fingerprint(find_files([str(file)])) != before
