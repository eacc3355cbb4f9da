"""What is counted of a worker's work. Knows no Ray: ``metrics`` hands it on."""

import time
from collections import Counter as Tally
from collections.abc import Sequence

from kafka_ingest.outgoing import Counts

SHED, DEGRADED = "shed", "degraded"
"""Why a batch waits: there was no room or no router; something that answers rest on was missing."""


class Meter:
    """Counts of one worker since it began; all of them only grow."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.batches = self.rows = self.commits = self.aborts = 0
        self.counts = Counts()
        self.longest = 0.0
        """Most seconds from a record's timestamp to its decision."""
        self.waited: Tally[str] = Tally()
        self._busy = 0.0
        self._since: float | None = None

    @property
    def busy(self) -> float:
        """Seconds in which there was a batch, from its records' arrival to their commit."""
        return self._busy + (0.0 if self._since is None else time.monotonic() - self._since)

    def occupied(self, batches: int) -> None:
        """So many batches are under way now."""
        if batches and self._since is None:
            self._since = time.monotonic()
        elif not batches and self._since is not None:
            self._busy += time.monotonic() - self._since
            self._since = None

    def batch(self, records: int) -> None:
        """A batch was read."""
        self.batches += 1
        self.rows += records

    def waits(self, why: str) -> None:
        """A batch has to wait once more."""
        self.waited[why] += 1

    def committed(self, counts: Counts, waits: Sequence[float]) -> None:
        """A transaction is whole; of each batch in it the oldest record came ``waits`` seconds
        ago."""
        self.commits += 1
        self.counts += counts
        self.longest = max([self.longest, *waits])

    def aborted(self) -> None:
        """A transaction was given up, and its records are done again."""
        self.aborts += 1
