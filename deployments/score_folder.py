"""The folder that ``sentinel score`` writes: what is complete in it, and whose it is.

Parts have their final name only once they are whole. Everything else begins with ``_`` or ``.``:

- ``_progress.json``: which run this is, and its result once it is finished;
- ``_profiles-N.msgpack``: the profiles after the first N batches, all of which are complete;
- ``_scores``: the models' scores by input row, where rows are not judged in input order;
- ``_reasons-N.parquet``: there too, the reasons of those of the Nth batch that have any.

So whoever is killed leaves a folder from which the same run goes on.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentinel.errors import SentinelError
from sentinel.row_tables import ROW

PROGRESS = "_progress.json"
_PART = re.compile(r"part-(\d{6,})\.parquet")
_PROFILES = re.compile(r"_profiles-(\d+)\.msgpack")
_REASONS = re.compile(r"_reasons-(\d+)\.parquet")
_SCORES, _SCORES_SO_FAR = "_scores", "_scores-so-far"
_TEMPORARY = ".writing-"


REASONS = "reasons"
"""The column of reasons beside ``row``, the input's row that they are of."""


class FolderError(SentinelError):
    """A folder that this run cannot write its answers to; names it and what is there."""


class RunKey(msgspec.Struct, frozen=True):
    """What makes two runs the same: they give the same answers in the same files."""

    bundle: str
    """The bundle's digest."""
    data: str
    """The fingerprint of the input files."""
    history: str
    """That of the table that profiles start from; "" without."""
    part_rows: int
    """Rows of a part."""


class _Progress(msgspec.Struct, tag="sentinelstream-score", tag_field="format"):
    run: RunKey
    result: dict[str, Any] | None = None


class ScoreFolder:
    """The output of one run, while its block runs; nobody else can open it meanwhile."""

    def __init__(self, path: Path, run: RunKey) -> None:
        self.path = path
        self._run = run
        self._lock: int | None = None
        self.result: dict[str, Any] | None = None
        """What the run resulted in, if it is finished."""

    def __enter__(self) -> Self:
        """Makes the folder, or looks at what is there.

        :raises FolderError: it belongs to something or somebody else.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            self._take_over()
        except OSError as error:
            self._release()
            what = error.strerror or error
            raise FolderError(f"{self.path}: cannot be written to: {what}") from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._release()

    def parts(self) -> set[int]:
        """The numbers of the parts that are complete."""
        return {int(found[1]) for name in self._names() if (found := _PART.fullmatch(name))}

    def part(self, number: int) -> Path:
        """Where that part is, or will be."""
        return self.path / f"part-{number:06d}.parquet"

    def save_profiles(self, batches: int, packed: bytes) -> None:
        """Keeps the profiles after so many batches, all of which must be complete."""
        place = self.path / f"_profiles-{batches}.msgpack"
        _write(place, lambda file: file.write_bytes(packed))
        for older, name in self._profiles():
            if older != batches:
                (self.path / name).unlink()

    def saved_profiles(self) -> tuple[int, bytes] | None:
        """After how many batches profiles were kept last, and these."""
        batches, name = max(self._profiles(), default=(0, ""))
        return (batches, (self.path / name).read_bytes()) if name else None

    def scores(self, rows: int) -> NDArray[np.float64] | None:
        """(rows, 2) fraud and anomaly score by input row once all are known; on disk."""
        place = self.path / _SCORES
        if not place.exists():
            return None
        return np.memmap(place, np.float64, "r", shape=(rows, 2))

    def scores_so_far(self, rows: int) -> "np.memmap[Any, np.dtype[np.float64]]":
        """The same while they are being found, to be written to."""
        place = self.path / _SCORES_SO_FAR
        mode = "r+" if place.exists() and place.stat().st_size == rows * 16 else "w+"
        return np.memmap(place, np.float64, mode, shape=(rows, 2))  # type: ignore[call-overload]

    def keep_scores(self) -> None:
        """Says that the scores are all known."""
        (self.path / _SCORES_SO_FAR).rename(self.path / _SCORES)
        self._remove(lambda name: bool(_PROFILES.fullmatch(name)))

    def reasons_part(self, batch: int) -> Path:
        """Where the reasons of that batch are, or will be."""
        return self.path / f"_reasons-{batch:06d}.parquet"

    def reasons(self) -> pa.Table:
        """All that were found, by row: columns ``row`` and ``reasons``."""
        names = sorted(filter(_REASONS.fullmatch, self._names()))
        return pa.concat_tables(pq.read_table(self.path / n) for n in names).sort_by(ROW)

    def errors(self) -> int:
        """Rows of all parts that have an error."""
        found = 0
        for number in self.parts():
            content = pq.read_metadata(self.part(number))
            at = content.schema.names.index("error")
            for group in range(content.num_row_groups):
                column = content.row_group(group).column(at)
                if column.statistics is not None:  # which no rows have
                    found += column.num_values - column.statistics.null_count
        return found

    def finish(self, result: dict[str, Any]) -> None:
        """Keeps the result, and nothing but it and the parts."""
        self._write_progress(_Progress(self._run, result))
        self._remove(lambda name: name.startswith("_") and name != PROGRESS)
        self.result = result

    def _take_over(self) -> None:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderError(f"{self.path}: another run is writing to it now") from error
        place = self.path / PROGRESS
        known = place.exists()
        foreign = [n for n in self._names() if n[0] not in "_." and not (known and _PART.match(n))]
        if foreign:
            some = ", ".join(sorted(foreign)[:3])
            raise FolderError(f"{self.path} holds other files ({some}); expected a new folder")
        self._remove(lambda name: name.startswith(_TEMPORARY))
        if not known:
            self._write_progress(_Progress(self._run))
            return
        try:
            progress = msgspec.json.decode(place.read_bytes(), type=_Progress)
        except msgspec.DecodeError as error:
            raise FolderError(f"{place} is no record of a run: {error}") from error
        if difference := _difference(progress.run, self._run):
            raise FolderError(
                f"{self.path} holds the answers of another run: {difference}; expected a new "
                "folder, or the very same run to go on with"
            )
        self.result = progress.result

    def _profiles(self) -> list[tuple[int, str]]:
        found = ((_PROFILES.fullmatch(name), name) for name in self._names())
        return [(int(match[1]), name) for match, name in found if match]

    def _names(self) -> list[str]:
        return os.listdir(self.path)

    def _remove(self, which: Callable[[str], bool]) -> None:
        for name in filter(which, self._names()):
            place = self.path / name
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink()

    def _write_progress(self, progress: _Progress) -> None:
        content = msgspec.json.format(msgspec.json.encode(progress), indent=2)
        _write(self.path / PROGRESS, lambda file: file.write_bytes(content))

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_part(place: Path, table: pa.Table) -> None:
    """Writes a part whole or not at all, and the same bytes for the same rows."""
    _write(place, lambda file: pq.write_table(table, file))


def _write(place: Path, write: Callable[[Path], Any]) -> None:
    file = place.with_name(f"{_TEMPORARY}{os.getpid()}-{place.name}")
    write(file)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.rename(place)


def _difference(there: RunKey, ours: RunKey) -> str:
    """How two runs differ, if they do."""
    if there.bundle != ours.bundle:
        return f"by bundle {there.bundle[:12]}, not {ours.bundle[:12]}"
    if there.data != ours.data:
        return "of other files than --data names, or of these before they changed"
    if there.history != ours.history:
        return "with another --history"
    if there.part_rows != ours.part_rows:
        return f"in parts of {there.part_rows:,} rows, not {ours.part_rows:,}"
    return ""
