"""``sentinel score`` on a Ray of its own: every row once, in order, whatever happens."""

import json
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.dataset import load_description
from sentinel.input_files import RowReader, check_files, find_files
from sentinel.row_tables import to_transactions
from sentinel.table import read_table
from sentinel.transactions import Transactions, concatenate
from tests.score.conftest import BAD_AMOUNT, BAD_CELL, PART_ROWS, SHORT_LINE
from tests.score.scoring import (
    Finished,
    alive,
    assert_same,
    command,
    end_midway,
    expected_answers,
    run_score,
)

BAD = [BAD_AMOUNT, BAD_CELL, SHORT_LINE]


def rows_of(places: list[Path], dataset: str) -> Transactions:
    """The good rows of these files, in input order."""
    description = load_description(dataset)
    reader = RowReader(description)
    pieces = check_files(find_files([str(place) for place in places]), description)
    tables = [table for piece in pieces for table in reader.tables(piece, 0)]
    return concatenate([to_transactions(table, description) for table in tables])


def test_each_row_is_judged_as_in_one_go_in_time_order(
    scored: Finished, transactions_bundle: str, mixed: list[Path], transactions_file: Path
) -> None:
    assert scored.code == 0, scored.said
    answers = scored.answers()
    good = np.setdiff1d(np.arange(answers.num_rows), BAD)
    rows = rows_of(mixed, "transactions")
    assert_same(answers.take(pa.array(good)), expected_answers(transactions_bundle, rows))
    ids = pq.read_table(transactions_file).column("transaction_id").cast(pa.string())
    assert answers.column("transaction_id").take(pa.array(good)) == ids.take(pa.array(good))


def test_a_bad_row_keeps_its_place_and_says_what_is_wrong(scored: Finished) -> None:
    answers = scored.answers()
    errors = answers.column("error").to_pylist()
    assert [row for row, error in enumerate(errors) if error is not None] == BAD
    assert errors[BAD_AMOUNT].startswith(f"row {BAD_AMOUNT}: amount is None, expected")
    assert errors[BAD_CELL].startswith(f"row {BAD_CELL}: amount is 'much', expected")
    assert errors[SHORT_LINE].startswith(f"row {SHORT_LINE}: it is 'short', expected")
    assert answers.column("decision")[BAD_CELL].as_py() is None


def test_the_result_counts_the_rows(scored: Finished, transactions_bundle: str) -> None:
    result = scored.result
    assert result is not None
    rows = scored.answers().num_rows
    assert (result["rows"], result["scored"], result["errors"]) == (rows, rows - 3, 3)
    assert result["profiles"] == "bundle"
    assert result["bundle"] == transactions_bundle
    assert result["rows_per_s"] > 0
    parts = [name for name in scored.contents() if not name.startswith("_")]
    assert parts == [f"part-{at:06d}.parquet" for at in range(-(-rows // PART_ROWS))]
    assert pq.read_metadata(scored.out / parts[0]).num_rows == PART_ROWS


def test_a_second_run_does_nothing(
    scored: Finished, transactions_bundle: str, mixed: list[Path]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in scored.out.iterdir()}
    again = run_score(transactions_bundle, mixed, scored.out, "--part-rows", PART_ROWS)
    assert again.code == 0
    assert "complete already" in again.said
    assert again.result == scored.result
    assert {path: path.stat().st_mtime_ns for path in scored.out.iterdir()} == before


def test_who_is_killed_goes_on_and_ends_with_the_same_bytes(
    scored: Finished, transactions_bundle: str, mixed: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    more = ("--part-rows", PART_ROWS, "--save-every", 0)
    code, _, _ = end_midway(
        signal.SIGKILL,
        lambda: any(out.glob("_profiles-*")) and len(list(out.glob("part-*"))) > 2,
        command(transactions_bundle, mixed, out, *more),
    )
    assert code == -signal.SIGKILL
    complete = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert json.loads((out / "_progress.json").read_text())["result"] is None
    assert 2 < len(complete) < len(scored.contents())
    resumed = run_score(transactions_bundle, mixed, out, *more)
    assert resumed.code == 0, resumed.said
    assert resumed.contents() == scored.contents()
    for name, written in complete.items():
        assert (out / name).stat().st_mtime_ns == written


def test_rows_out_of_order_are_judged_in_time_order_though_stopped_on_the_way(
    cold_bundle: str, shuffled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    more = ("--part-rows", PART_ROWS, "--save-every", 0)
    code, said, started = end_midway(
        signal.SIGTERM,
        lambda: any(out.glob("_profiles-*")),
        command(cold_bundle, [shuffled], out, *more),
    )
    assert code == 1, said
    assert not alive(started)
    assert "the same command goes on from what is complete" in said
    assert "Traceback" not in said
    done = run_score(cold_bundle, [shuffled], out, *more)
    assert done.code == 0, done.said
    assert "profiles: cold" in done.said
    assert (done.result or {})["profiles"] == "cold"
    expected = expected_answers(cold_bundle, rows_of([shuffled], "transactions"))
    assert_same(done.answers(), expected)
    assert all(name.startswith("part-") for name in done.contents())


def test_a_table_without_time_ids_and_profiles_is_scored_too(
    creditcard_bundle: str, creditcard_file: Path, tmp_path: Path
) -> None:
    done = run_score(creditcard_bundle, [creditcard_file], tmp_path / "out")
    assert done.code == 0, done.said
    rows = read_table(str(creditcard_file), load_description("creditcard")).transactions
    assert_same(done.answers(), expected_answers(creditcard_bundle, rows))
    assert (done.result or {})["profiles"] is None
    assert done.answers().column("transaction_id").to_pylist()[:2] == ["0", "1"]


def test_a_folder_with_other_files_is_refused(
    transactions_bundle: str, mixed: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").touch()
    refused = run_score(transactions_bundle, mixed, tmp_path)
    assert refused.code == 1
    assert "holds other files (mine.txt)" in refused.said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_folder_of_another_run_is_refused(
    scored: Finished, transactions_bundle: str, mixed: list[Path]
) -> None:
    refused = run_score(transactions_bundle, mixed[:1], scored.out, "--part-rows", PART_ROWS)
    assert refused.code == 1
    assert "holds the answers of another run: of other files" in refused.said


def test_a_missing_column_is_one_line_before_anything_is_written(
    creditcard_bundle: str, mixed: list[Path], tmp_path: Path
) -> None:
    refused = run_score(creditcard_bundle, mixed, tmp_path / "out")
    assert refused.code == 1
    assert refused.said.count("\n") == 1
    assert "first.parquet: there is no column V1" in refused.said
    assert not (tmp_path / "out").exists()


def test_answers_cannot_go_where_the_data_is(
    transactions_bundle: str, transactions_file: Path
) -> None:
    refused = run_score(transactions_bundle, [transactions_file], transactions_file.parent)
    assert refused.code == 2
    assert "--out" in refused.said
