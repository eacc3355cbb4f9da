"""The folder of a run says what is complete in it, and whose it is."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from deployments.score_folder import FolderError, RunKey, ScoreFolder, write_part

RUN = RunKey(bundle="b" * 64, data="d", history="", part_rows=10)


def part(error: str | None = None) -> pa.Table:
    return pa.table({"decision": ["approve", None], "error": pa.array([None, error], pa.string())})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_is_made_and_a_part_that_was_not_finished_is_not_there(
    tmp_path: Path,
) -> None:
    out = tmp_path / "deep" / "out"
    with ScoreFolder(out, RUN) as folder:
        write_part(folder.part(3), part())
        (out / ".writing-17-part-000004.parquet").write_bytes(b"half")
        assert folder.parts() == {3}
        assert folder.result is None
    with ScoreFolder(out, RUN) as folder:
        assert folder.parts() == {3}
        assert names(out) == ["_progress.json", "part-000003.parquet"]


def test_the_last_profiles_are_kept_and_no_older_ones(tmp_path: Path) -> None:
    with ScoreFolder(tmp_path, RUN) as folder:
        assert folder.saved_profiles() is None
        for batches in (2, 10):
            folder.save_profiles(batches, b"after %d" % batches)
        assert folder.saved_profiles() == (10, b"after 10")
        assert names(tmp_path) == ["_profiles-10.msgpack", "_progress.json"]


def test_scores_are_there_once_all_of_them_are_known(tmp_path: Path) -> None:
    with ScoreFolder(tmp_path, RUN) as folder:
        so_far = folder.scores_so_far(3)
        so_far[[2, 0]] = [[0.1, 0.2], [0.3, 0.4]]
        so_far.flush()
        assert folder.scores(3) is None
        assert folder.scores_so_far(3)[2].tolist() == [0.1, 0.2]
        folder.save_profiles(1, b"")
        folder.keep_scores()
        scores = folder.scores(3)
        assert scores is not None
        assert scores[0].tolist() == [0.3, 0.4]
        assert folder.saved_profiles() is None


def test_a_finished_run_leaves_its_parts_and_its_result(tmp_path: Path) -> None:
    with ScoreFolder(tmp_path, RUN) as folder:
        write_part(folder.part(0), part("bad"))
        write_part(folder.part(1), part())
        folder.save_profiles(1, b"")
        assert folder.errors() == 1
        folder.finish({"rows": 4})
    with ScoreFolder(tmp_path, RUN) as folder:
        assert folder.result == {"rows": 4}
    assert names(tmp_path) == ["_progress.json", "part-000000.parquet", "part-000001.parquet"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bundle": "c" * 64}, "by bundle bbbbbbbbbbbb, not cccccccccccc"),
        ({"data": "e"}, "of other files than --data names"),
        ({"history": "h"}, "with another --history"),
        ({"part_rows": 11}, "in parts of 10 rows, not 11"),
    ],
)
def test_the_folder_of_another_run_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with ScoreFolder(tmp_path, RUN):
        pass
    other = msgspec.structs.replace(RUN, **changed)
    with pytest.raises(FolderError, match=words), ScoreFolder(tmp_path, other):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "part-000000.parquet"])
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FolderError, match=name), ScoreFolder(tmp_path, RUN):
        pass
    assert names(tmp_path) == [name]


def test_hidden_files_are_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".keep").touch()
    with ScoreFolder(tmp_path, RUN) as folder:
        folder.finish({})
    assert names(tmp_path) == [".keep", "_progress.json"]


def test_a_record_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_progress.json").write_text('{"format": "other"}')
    with pytest.raises(FolderError, match="is no record of a run"), ScoreFolder(tmp_path, RUN):
        pass


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(FolderError, match="cannot be written"), ScoreFolder(tmp_path / "out", RUN):
        pass


def test_two_runs_cannot_write_to_the_same_folder(tmp_path: Path) -> None:
    with (
        ScoreFolder(tmp_path, RUN),
        pytest.raises(FolderError, match="another run is writing"),
        ScoreFolder(tmp_path, RUN),
    ):
        pass
    with ScoreFolder(tmp_path, RUN):
        pass
