"""How many workers a pool needs whose queue is counted from outside it, such as Kafka's lag.

The same core as the Serve application's (``sentinel.scaling``), with one stage: rows waiting are
the lag, rows arriving the growth of the end offsets. Whoever supervises the pool asks it every
second or so, on one thread, and has as many workers as it says:

    pool = PoolByLag(lowest=1, highest=min(8, partitions))
    verdict = pool.decide(time.monotonic(), Backlog(lag, end_offsets), progress_of_workers)
    verdict.target      # workers there should be
    verdict.reason      # why, or why nothing moves; log it where verdict.changed

Two things differ from a router's queue. A record counts as lag until its offset is committed, so
with what is in the transaction under way: the objective has to be a good deal longer than one takes
(``BY_LAG``). And a worker mostly waits for others, so what a row takes it is counted in seconds of
its time and not of a CPU's: where the service behind it is what holds it up, more workers wait in
parallel, up to ``highest``, and the service's own replicas have to grow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sentinel.load_report import BATCHES, CPU, CPUS, DONE, Point, works
from sentinel.scaling import Load, Memory, Sight, Stage, StageVerdict, decide
from sentinel.scaling_settings import ScalingSettings
from sentinel.service_time import Costs

BY_LAG = ScalingSettings(objective_ms=5_000)
"""A record should be decided within five seconds: workers commit once a second or so, and a new
one takes seconds to start."""

RATE_SECONDS = 5.0
"""Arrivals are the mean of so many seconds: who produces in batches would else look like waves."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queue as one look at the broker shows it, all partitions together."""

    lag: float
    """Records from what is committed to the end. Markers of transactions count: offsets do."""
    ended: float
    """The sum of the end offsets, which only grows."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one worker counted since it began; all of it only grows."""

    at: float
    """Seconds, by the worker's own clock."""
    busy: float
    """Seconds in which it had a batch, from its records' arrival to their commit."""
    batches: float
    rows: float


class PoolByLag:
    """Remembers what decisions need of the ones before. Knows no Kafka, and no clock."""

    def __init__(
        self,
        lowest: int,
        highest: int,
        settings: ScalingSettings = BY_LAG,
        *,
        name: str = "workers",
        batch_rows: int = 4_096,
    ) -> None:
        """``highest``: no more than partitions, or some have none; ``batch_rows``: most rows of one
        batch. Begins with ``lowest`` workers, at least one: nobody could tell what a row takes.

        :raises ValueError: bounds that cannot be meant.
        """
        if not 1 <= lowest <= highest:
            raise ValueError(f"{lowest} to {highest} workers, expected 1 <= lowest <= highest")
        self._settings, self._name, self._batch_rows = settings, name, batch_rows
        self._lowest, self._highest = lowest, highest
        self._target = lowest
        self._memory = Memory()
        self._costs = Costs()
        self._last: dict[str, Point] = {}
        self._ended: list[tuple[float, float]] = []

    def decide(
        self, at: float, backlog: Backlog | None, workers: Mapping[str, Progress]
    ) -> StageVerdict:
        """The workers there should be from this moment on (seconds, by a clock of the caller's that
        never goes back).

        ``backlog``: ``None`` while the broker does not answer: nothing moves then. ``workers``: the
        last that is known of each one that works, by a name that no later one gets.
        """
        self._learn(workers)
        load = None if backlog is None else self._load(at, backlog)
        stage = Stage(
            self._name,
            self._target,
            len(workers),
            self._lowest,
            self._highest,
            self._costs.service(1.0),
            self._batch_rows,
        )
        why = "the backlog is not known" if backlog is None else "the rate is not known yet"
        verdict, self._memory = decide(self._settings, self._memory, Sight(at, load, [stage], why))
        (decided,) = verdict.stages
        self._target = decided.target
        return decided

    def _learn(self, workers: Mapping[str, Progress]) -> None:
        now = {
            name: Point(one.at, {CPU: one.busy, BATCHES: one.batches, DONE: one.rows, CPUS: 1.0})
            for name, one in workers.items()
        }
        for name, point in now.items():
            if name in self._last:
                for work in works([self._last[name], point]):
                    self._costs = self._costs.learnt(work)
        self._last = now

    def _load(self, at: float, backlog: Backlog) -> Load | None:
        """``None`` until there were two looks, and after a topic was made anew."""
        if self._ended and backlog.ended < self._ended[-1][1]:
            self._ended = []
        self._ended = [one for one in self._ended if one[0] >= at - RATE_SECONDS]
        self._ended.append((at, backlog.ended))
        first_at, first = self._ended[0]
        if at <= first_at:
            return None
        return Load(backlog.lag, 0.0, (backlog.ended - first) / (at - first_at))
