"""A batch at a time, with profiles saved on the way, gives what one go gives."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.profile_step import ProfileStep
from deployments.score_folder import RunKey, ScoreFolder
from deployments.scorer import Scorer
from sentinel.answers import columns
from sentinel.bundle import Bundle, open_bundle
from sentinel.history import History, history_of
from sentinel.input_files import RowReader, check_files, find_files
from sentinel.parsing import Parsed
from sentinel.row_tables import to_table, to_transactions
from sentinel.scoring import score_offline
from sentinel.table import read_table

SIZE = 1000


@pytest.fixture(scope="module")
def bundle(transactions_bundle: str) -> Bundle:
    return open_bundle(transactions_bundle)


@pytest.fixture(scope="module")
def batches(bundle: Bundle, transactions_file: Path) -> list[pa.Table]:
    description = bundle.manifest.description
    (piece,) = check_files(find_files([str(transactions_file)]), description)
    (table,) = RowReader(description).tables(piece, 0)
    return [table.slice(at, SIZE) for at in range(0, 5 * SIZE, SIZE)]


def known(bundle: Bundle) -> History:
    history = history_of(bundle)
    assert history is not None
    return history


def test_batches_give_what_one_go_gives(
    bundle: Bundle, batches: list[pa.Table], transactions_file: Path, tmp_path: Path
) -> None:
    judge = bundle.judge()
    step, scorer = ProfileStep(judge, known(bundle)), Scorer(bundle)
    parts = []
    for at, batch in enumerate(batches):
        place = str(tmp_path / f"{at}.parquet")
        assert scorer.write(place, batch, step(batch)) == SIZE
        parts.append(pq.read_table(place))
    found = pa.concat_tables(parts)
    table = read_table(str(transactions_file), judge.description)
    rows = table.transactions.take(slice(0, 5 * SIZE))
    decisions = score_offline(judge, bundle.lanes(), rows, known(bundle).note(rows))
    expected = pa.table(columns(decisions))
    assert found.drop_columns(["error"]).to_pylist() == expected.to_pylist()
    assert found.column("error").null_count == 5 * SIZE


def test_profiles_that_were_saved_go_on_as_if_nothing_had_happened(
    bundle: Bundle, batches: list[pa.Table], tmp_path: Path
) -> None:
    judge = bundle.judge()
    step = ProfileStep(judge, known(bundle), save_seconds=0)
    with ScoreFolder(tmp_path, RunKey("", "", "", SIZE)) as folder:
        for at, batch in enumerate(batches[:2]):
            step(batch)
            step.save_if_due(folder, at + 1, lambda: None)
            if saved := folder.saved_profiles():
                break
    assert saved is not None
    count, packed = saved
    resumed = ProfileStep(judge, known(bundle))
    resumed.resume(packed)
    for batch in batches[count:]:
        np.testing.assert_array_equal(resumed(batch), step(batch))


def test_profiles_are_saved_when_it_is_time_and_all_before_is_complete(
    bundle: Bundle, batches: list[pa.Table], tmp_path: Path
) -> None:
    now = [100.0]
    completed = []
    step = ProfileStep(bundle.judge(), known(bundle), save_seconds=60, clock=lambda: now[0])

    def complete() -> None:
        completed.append(now[0])
        now[0] += 10  # a save that takes ten seconds

    with ScoreFolder(tmp_path, RunKey("", "", "", SIZE)) as folder:
        for at, moment in enumerate((159.0, 160.0, 200.0, 369.0, 370.0)):
            now[0] = moment
            step.save_if_due(folder, at, complete)
    assert completed == [160.0, 370.0]


def test_a_bad_row_has_its_error_alone(
    bundle: Bundle, transactions_file: Path, tmp_path: Path
) -> None:
    description = bundle.manifest.description
    data = tmp_path / "data.parquet"
    table = pq.read_table(transactions_file).slice(0, 40)
    amount = [None if row in (0, 7) else 5.0 for row in range(40)]
    at = table.column_names.index("amount")
    pq.write_table(table.set_column(at, "amount", pa.array(amount)), data)
    (piece,) = check_files(find_files([str(data)]), description)
    (batch,) = RowReader(description).tables(piece, 100)
    place = str(tmp_path / "part")
    Scorer(bundle).write(place, batch, ProfileStep(bundle.judge(), known(bundle))(batch))
    answers = pq.read_table(place).to_pylist()
    assert len(answers) == 40
    for row, answer in enumerate(answers):
        if row in (0, 7):
            error = answer.pop("error")
            assert error.startswith(f"row {100 + row}: amount is None")
            assert set(answer.values()) == {None}
        else:
            assert answer["error"] is None
            assert answer["decision"] in ("approve", "review", "block")


def test_rows_travel_as_tables_and_come_back(bundle: Bundle, transactions_file: Path) -> None:
    table = read_table(str(transactions_file), bundle.manifest.description)
    rows = table.transactions
    parsed = Parsed(rows, np.arange(len(rows)), (), len(rows))
    back = to_transactions(to_table(parsed, table.description, 0), table.description)
    assert back.ids == rows.ids
    assert back.entities == rows.entities
    np.testing.assert_array_equal(back.numbers, rows.numbers)
    np.testing.assert_array_equal(back.times, rows.times)


def test_no_rows_are_no_answers(bundle: Bundle, tmp_path: Path) -> None:
    empty = RowReader(bundle.manifest.description).empty()
    with ScoreFolder(tmp_path, RunKey("", "", "", SIZE)) as folder:
        behaviour = ProfileStep(bundle.judge(), known(bundle))(empty)
        assert Scorer(bundle).write(str(folder.part(0)), empty, behaviour) == 0
        assert pq.read_table(folder.part(0)).num_rows == 0
        assert folder.errors() == 0
