"""Scoring files of any size on Ray: what ``sentinel score`` does.

Ray Data reads and parses the files in parallel and hands over the rows in order, in batches of the
size of a part; it also sorts them by time, on disk where memory ends, if they are not so already.
Profiles advance here, in the driver, and scorers, which keep nothing, do the rest.

Why the profiles are no stage of Ray Data: its actors execute out of order even where it preserves
the order of what they yield, and an actor that failed is started anew and given its batch again.
Profiles must see every row once and in order. In the driver they do; a driver that dies is started
again by whoever gave the command, and goes on from the profiles that it saved.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from deployments.profile_step import ProfileStep
from deployments.row_source import RowSource
from deployments.score_folder import ScoreFolder
from deployments.scorer_pool import ScorerPool
from deployments.time_order import Layout
from sentinel.bundle import Bundle
from sentinel.history import History, history_of
from sentinel.input_files import Piece, RowReader
from sentinel.row_tables import ROW, good_rows
from sentinel.scoring import Judge

OnRows = Callable[[int], None]
"""Is told how many rows of the input are done."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """``history``: labelled table that profiles start from instead of the bundle's; ``part_rows``:
    rows of a part; ``save_seconds``: how often profiles are saved."""

    history: str | None
    part_rows: int
    save_seconds: float


@dataclass(frozen=True, slots=True)
class Scored:
    """``rows`` in the input; ``fresh`` of them were scored by this run, the others before.
    ``profiles``: where they came from; ``None`` where the bundle needs none."""

    rows: int
    fresh: int
    profiles: str | None


class OfflineRun:
    """One run of scoring, on a Ray that is there."""

    def __init__(
        self, bundle: Bundle, pieces: Sequence[Piece], folder: ScoreFolder, options: ScoreOptions
    ) -> None:
        self._bundle = bundle
        self._judge: Judge = bundle.judge()
        self._folder = folder
        self._options = options
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus = max(1, int(resources.get("CPU", 1)))
        self._source = RowSource(pieces, RowReader(self._judge.description), cpus)
        self._pool = ScorerPool(bundle, cpus)
        self._history: History | None = None
        self._layout = Layout([0], 0, True)
        self._done = 0
        self._on_rows: OnRows

    def prepare(self) -> int:
        """Loads the profiles and looks through the input; how many rows it has.

        :raises TableError: a file, or the table of the history, cannot be used.
        """
        timed = self._judge.features.plan is not None
        with ThreadPoolExecutor(1) as thread:
            loading = thread.submit(history_of, self._bundle, self._options.history, False)
            self._layout = self._source.survey(timed=timed)
            self._history = loading.result()
        return self._layout.rows

    def __call__(self, on_rows: OnRows) -> Scored:
        """Scores what is not scored yet.

        :raises TableError: a file cannot be used.
        """
        self._on_rows = on_rows
        count = -(-self._layout.rows // self._options.part_rows) or 1
        missing = sorted(set(range(count)) - self._folder.parts())
        fresh = sum(map(self._rows_of, missing))
        self._done = self._layout.rows - fresh
        history = self._history
        if not missing:
            pass
        elif history is None:
            self._write_in_order(missing, None)
        else:
            step = ProfileStep(self._judge, history, self._options.save_seconds)
            write = self._write_in_order if self._layout.in_order else self._write_out_of_order
            write(missing, step)
        return Scored(self._layout.rows, fresh, None if history is None else history.source)

    def _write_in_order(self, missing: Sequence[int], step: ProfileStep | None) -> None:
        """Judges and writes the missing parts; the parts between only advance the profiles."""
        first = missing[0] if step is None else self._resume(step, missing[0])
        with closing(self._parts(first, missing[-1])) as parts:
            for part, table in parts:
                behaviour = None if step is None else step(table)
                if part in missing:
                    place = str(self._folder.part(part))
                    self._pool.submit("write", place, table, behaviour, done=self._count)
                if step is not None:
                    step.save_if_due(self._folder, part + 1, self._pool.drain)
        self._pool.drain()

    def _write_out_of_order(self, missing: Sequence[int], step: ProfileStep) -> None:
        """First the scores of all rows, found in time order, are put down by row; then the parts
        are written by them."""
        if self._folder.scores(self._layout.rows) is None:
            self._score_by_time(step)
        scores = self._folder.scores(self._layout.rows)
        assert scores is not None
        reasons = self._folder.reasons()
        of_row = reasons.column(ROW).to_numpy()
        with closing(self._parts(missing[0], missing[-1])) as parts:
            for part, table in parts:
                if part in missing:
                    rows = table.column(ROW).to_numpy()[good_rows(table)]
                    mine = np.isin(of_row, rows, assume_unique=True)
                    why = reasons.filter(pa.array(mine))
                    place = str(self._folder.part(part))
                    found = scores[rows], why
                    self._pool.submit("write_scored", place, table, *found, done=self._count)
        self._pool.drain()

    def _score_by_time(self, step: ProfileStep) -> None:
        scores = self._folder.scores_so_far(self._layout.rows)

        def put(rows: Any, found: Any) -> None:
            scores[rows] = found

        def complete() -> None:
            self._pool.drain()
            scores.flush()

        first = self._resume(step, self._layout.rows)
        size = self._options.part_rows
        with closing(self._source.batches_by_time(self._layout, size)) as batches:
            for batch, table in enumerate(batches):
                if batch < first:
                    continue
                rows = table.column(ROW).to_numpy()
                place = str(self._folder.reasons_part(batch))
                self._pool.submit("scores", place, table, step(table), done=partial(put, rows))
                step.save_if_due(self._folder, batch + 1, complete)
        complete()
        self._folder.keep_scores()

    def _resume(self, step: ProfileStep, most: int) -> int:
        """Puts the saved profiles in, if they are of ``most`` batches or fewer; of how many."""
        saved = self._folder.saved_profiles()
        if saved is None or saved[0] > most:
            return 0
        step.resume(saved[1])
        return saved[0]

    def _parts(self, first: int, last: int) -> Generator[tuple[int, pa.Table], None, None]:
        """The parts of the input from one to another, with their numbers."""
        size = self._options.part_rows
        with closing(self._source.batches(self._layout, first * size, size)) as batches:
            yield from zip(range(first, last + 1), batches, strict=False)

    def _rows_of(self, part: int) -> int:
        size = self._options.part_rows
        return min(size, self._layout.rows - part * size)

    def _count(self, rows: int) -> None:
        self._done += rows
        self._on_rows(self._done)
