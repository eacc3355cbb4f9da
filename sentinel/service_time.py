"""What a row takes a replica, learnt from what replicas count of themselves.

A batch takes something by itself (a call, a turn of the event loop) and something for each row:

    seconds of work = batch_seconds * batches + row_seconds * rows

Work is counted as CPU time, so that neighbours on the same cores do not make rows look dear, and
held against the CPUs that a replica was given: a replica with 0.2 of a core takes five times as
long. What it works without any row (reports, health checks) is learnt from idle seconds and left
out.
"""

import math
from dataclasses import dataclass, replace

HALF_LIFE = 60.0
"""Seconds after which a measurement counts half: the mix of requests changes within minutes."""

LEAST_ROW_SHARE = 0.25
"""At least this share of the work is held to be for rows. Where batches are much alike the fit
leans towards the batch, and rows that seem to cost nothing would need no replica, however many."""

DISTINCT = 0.05
"""Rows and batches must have varied apart by so much (1 minus the square of their correlation) to
tell what a batch takes by itself. Until they once have, all work is held to be for rows, the safe
side; later, while batches are alike, a batch takes what it took: that is a property of the code."""

STEP = 0.1
"""So much of what a batch seems to take now is believed at once: it would otherwise jump, and
replicas with it, whenever batches grow more alike."""


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Seconds that one replica takes at the speed it may count on."""

    row_seconds: float
    """Above 0."""
    batch_seconds: float = 0.0

    def __post_init__(self) -> None:
        good = 0 < self.row_seconds < math.inf and 0 <= self.batch_seconds < math.inf
        if not good:
            raise ValueError(
                f"a row takes {self.row_seconds} s and a batch {self.batch_seconds} s, expected "
                "finite numbers, above 0 and from 0"
            )


@dataclass(frozen=True, slots=True)
class Work:
    """What one replica did between two of its reports."""

    seconds: float
    """Between the two."""
    cpu: float
    """Seconds of CPU time."""
    batches: float
    rows: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What is learnt of the work of a stage, all its replicas together: sums in which what is older
    counts less (``HALF_LIFE``)."""

    idle: float | None = None
    """Seconds of CPU time a second without any row."""
    batch: float | None = None
    """Seconds of CPU time a batch, while it could be told."""
    cpu: float = 0.0
    batches: float = 0.0
    rows: float = 0.0
    batch_batch: float = 0.0
    batch_row: float = 0.0
    row_row: float = 0.0
    batch_cpu: float = 0.0
    row_cpu: float = 0.0

    def learnt(self, work: Work) -> "Costs":
        """With one more piece of work."""
        if work.seconds <= 0:
            return self
        kept = 0.5 ** (work.seconds / HALF_LIFE)
        if not work.rows:
            share = work.cpu / work.seconds
            # Whoever is idle may load a bundle: what is often seen counts, the least at once.
            idle = share if self.idle is None else min(share, kept * self.idle + (1 - kept) * share)
            return replace(self, idle=idle)
        cpu = max(0.0, work.cpu - (self.idle or 0.0) * work.seconds)
        learnt = Costs(
            self.idle,
            self.batch,
            kept * self.cpu + cpu,
            kept * self.batches + work.batches,
            kept * self.rows + work.rows,
            kept * self.batch_batch + work.batches**2,
            kept * self.batch_row + work.batches * work.rows,
            kept * self.row_row + work.rows**2,
            kept * self.batch_cpu + work.batches * cpu,
            kept * self.row_cpu + work.rows * cpu,
        )
        fitted = learnt._fitted()
        if fitted is None:
            return learnt
        known = fitted if self.batch is None else self.batch
        return replace(learnt, batch=known + STEP * (fitted - known))

    def service(self, cpus: float) -> ServiceTime | None:
        """What a replica with so many CPUs takes; ``None`` while no row was seen."""
        if not self.rows or not self.cpu:
            return None
        batch = self.batch or 0.0
        least = LEAST_ROW_SHARE * self.cpu
        if self.batches:
            batch = min(batch, (self.cpu - least) / self.batches)
        row = max(self.cpu - batch * self.batches, least) / self.rows
        return ServiceTime(row / cpus, batch / cpus)

    def _fitted(self) -> float | None:
        """CPU seconds of a batch by least squares, if they can be told."""
        apart = self.batch_batch * self.row_row - self.batch_row**2
        if apart <= DISTINCT * self.batch_batch * self.row_row:
            return None
        return max(0.0, (self.row_row * self.batch_cpu - self.batch_row * self.row_cpu) / apart)
