"""What a replica tells of its load, for whoever sizes the stages (``sentinel.scaling``).

All of it but one are counters that only grow, because whoever reads them sees them seconds apart,
at moments of nobody's choosing. Of a gauge that moves within milliseconds a few moments say little,
and their mean lags behind; the difference of two counters is exact for the time between them. So
rows that wait are counted as *row seconds*: a row that waited for 20 ms adds 0.02. Their difference
over that of the time is the mean number of rows that waited.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sentinel.service_time import Work

WAITING = "sentinel_waiting_row_seconds"
FLYING = "sentinel_flying_row_seconds"
ARRIVED = "sentinel_arrived_rows"
DONE = "sentinel_done_rows"
BATCHES = "sentinel_done_batches"
CPU = "sentinel_cpu_seconds"
CPUS = "sentinel_cpus"
"""The CPUs it was given; the one that is no counter."""

QUEUE = (WAITING, FLYING, ARRIVED)
"""What only the holder of a queue counts."""

OWN_WORK = (DONE, BATCHES, CPU, CPUS)
"""What every replica counts."""

COLD_BATCHES = 20
"""A process takes many times as long over its first batches (what is compiled, loaded or cached on
first use): what they took says nothing about the next ones."""

LEAST_CPUS = 0.01
"""Below it nothing was reserved: such a replica counts as one that has a core."""


class LoadReport:
    """Counts what one replica gets and does. Not safe to share between threads."""

    def __init__(
        self,
        cpus: float,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """``cpus``: what the replica was given, 0 where nothing was reserved.

        The clocks give seconds; the second the CPU time of this process.
        """
        self._cpus = cpus if cpus >= LEAST_CPUS else 1.0
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at = clock()
        self._waiting = self._flying = 0
        self._waiting_seconds = self._flying_seconds = 0.0
        self._arrived = self._done = self._batches = 0

    def arrived(self, rows: int) -> None:
        """So many rows came, whether there was room for them or not."""
        self._arrived += rows

    def queue(self, waiting: int, flying: int) -> None:
        """From now on so many rows wait and fly. To be called whenever either changes."""
        now = self._clock()
        passed = now - self._at
        self._waiting_seconds += passed * self._waiting
        self._flying_seconds += passed * self._flying
        self._at, self._waiting, self._flying = now, waiting, flying

    def done(self, rows: int) -> None:
        """A batch of so many rows is done."""
        self._done += rows
        self._batches += 1

    def own_work(self) -> dict[str, float]:
        """What a replica without a queue reports."""
        return {
            DONE: float(self._done),
            BATCHES: float(self._batches),
            CPU: self._cpu_clock(),
            CPUS: self._cpus,
        }

    def all(self) -> dict[str, float]:
        """What the holder of a queue reports."""
        self.queue(self._waiting, self._flying)
        return {
            WAITING: self._waiting_seconds,
            FLYING: self._flying_seconds,
            ARRIVED: float(self._arrived),
            **self.own_work(),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """What one replica reported at one moment."""

    at: float
    """Seconds, by the replica's clock."""
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of one replica, the means of the time between two of its reports."""

    waiting: float
    flying: float
    arrivals: float
    """Rows a second."""


def queue_between(first: Point, last: Point) -> Queue | None:
    """``None`` where it reports no queue, no time has passed, or a counter fell."""
    seconds = last.at - first.at
    if seconds <= 0 or not _has(QUEUE, first, last):
        return None
    steps = [last.figures[name] - first.figures[name] for name in QUEUE]
    if min(steps) < 0:
        return None
    waiting, flying, arrivals = (step / seconds for step in steps)
    return Queue(waiting, flying, arrivals)


def works(points: Sequence[Point]) -> list[Work]:
    """What was done from each point, in order of time, to the next; nothing where it does not say.

    The first batches of a process (``COLD_BATCHES``) are left out, and so is a step in which a
    counter fell: it was begun anew.
    """
    found = []
    for before, after in itertools.pairwise(points):
        if not _has(OWN_WORK, before, after):
            continue
        steps = [after.figures[name] - before.figures[name] for name in (CPU, BATCHES, DONE)]
        if after.at > before.at and min(steps) >= 0:
            cpu, batches, rows = steps
            if batches and before.figures[BATCHES] < COLD_BATCHES:
                continue
            found.append(Work(after.at - before.at, cpu, batches, rows))
    return found


def _has(names: Sequence[str], *points: Point) -> bool:
    return all(name in point.figures for point in points for name in names)
