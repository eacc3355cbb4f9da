"""The sequential step of ``sentinel score``: rows in time order through the profiles, once each."""

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deployments.score_folder import ScoreFolder
from sentinel.history import History
from sentinel.profile_snapshot import restore
from sentinel.row_tables import to_transactions
from sentinel.scoring import Judge

SAVE_SECONDS = 60.0
"""Seconds after which the profiles are saved again, so that a run which is killed has no more to
do again."""
SAVE_SHARE = 0.05
"""Most of the time that may go into saving them: large profiles are saved less often."""


class ProfileStep:
    """Profiles that advance batch by batch, and their saving."""

    def __init__(
        self,
        judge: Judge,
        history: History,
        save_seconds: float = SAVE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._history = history
        self._clock = clock
        self._saved_at = clock()
        self._save_seconds = self._pause = save_seconds

    def resume(self, packed: bytes) -> None:
        """Puts in profiles that were saved.

        :raises BundleError: they cannot be read.
        """
        restore(packed, self._history.store, seen=False)

    def __call__(self, table: pa.Table) -> NDArray[np.float32]:
        """(n, b) what the profiles say of the n good rows of a batch, all of which they note."""
        return self._history.note(to_transactions(table, self._judge.description))

    def save_if_due(self, folder: ScoreFolder, batches: int, complete: Callable[[], None]) -> None:
        """Saves the profiles after so many batches, if it is time; ``complete`` must see to it that
        all of those are complete."""
        start = self._clock()
        if start - self._saved_at < self._pause:
            return
        complete()
        folder.save_profiles(batches, self._history.packed())
        self._saved_at = self._clock()
        self._pause = max(self._save_seconds, (self._saved_at - start) / SAVE_SHARE)
