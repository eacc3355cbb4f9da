"""What a load test counts: outcomes, and every response time.

Locust's own statistics round a response time to two digits from 100 ms on, which is too coarse to
hold an objective to. Here every time is kept, eight bytes each, and a percentile is one of them.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.exchanges import Outcome

OK = 200
SHED = 503
"""The status of a service that takes no more work now."""

PERCENTILES = (50, 95, 99)


class Figures(msgspec.Struct, frozen=True):
    """A tally as it is reported.

    ``failed`` counts the requests whose answer was not status 200 and what was asked for, ``shed``
    those of them that were answered with 503; ``transactions`` those in good answers, ``degraded``
    those of them that were answered with something missing. The times are milliseconds, to the
    microsecond, of the good answers alone, since a refusal is quick; ``None`` where there was none.
    """

    requests: int
    failed: int
    shed: int
    transactions: int
    degraded: int
    requests_per_s: float
    transactions_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Tally:
    """Counts requests as their answers come; not safe to share between threads."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.shed = 0
        self.transactions = 0
        self.degraded = 0
        self.waited_ms = 0.0
        """All times together, also of requests that failed."""
        self.problems: Counter[str] = Counter()
        """How often each thing went wrong."""
        self._times = array("d")

    def add(self, milliseconds: float, outcome: Outcome, status: int = OK) -> None:
        """Counts one request; ``status`` is 0 where no answer came."""
        self.requests += 1
        self.waited_ms += milliseconds
        if outcome.problem is None:
            self._times.append(milliseconds)
            self.transactions += outcome.scored
            self.degraded += outcome.degraded
            return
        self.failed += 1
        self.shed += status == SHED
        self.problems[outcome.problem] += 1

    def times(self, since: int = 0) -> NDArray[np.float64]:
        """Milliseconds of the good answers in the order they came, all but the first ``since``."""
        return np.array(self._times[since:], np.float64)

    @property
    def good(self) -> int:
        """How many answers were good."""
        return len(self._times)

    def merge(self, other: "Tally") -> None:
        """Counts all that the other has counted too."""
        self.requests += other.requests
        self.failed += other.failed
        self.shed += other.shed
        self.transactions += other.transactions
        self.degraded += other.degraded
        self.waited_ms += other.waited_ms
        self.problems += other.problems
        self._times.extend(other._times)

    def figures(self, seconds: float) -> Figures:
        """The figures of requests that took so many seconds together."""
        times = self.times()
        p50, p95, p99 = (_rounded(time) for time in percentiles(times, PERCENTILES))
        return Figures(
            requests=self.requests,
            failed=self.failed,
            shed=self.shed,
            transactions=self.transactions,
            degraded=self.degraded,
            requests_per_s=_rate(self.requests, seconds),
            transactions_per_s=_rate(self.transactions, seconds),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=_rounded(float(times.max())) if len(times) else None,
        )


def merged(tallies: Iterable[Tally]) -> Tally:
    """All of them in one."""
    together = Tally()
    for tally in tallies:
        together.merge(tally)
    return together


def percentiles(times: NDArray[np.float64], percents: Sequence[float]) -> tuple[float | None, ...]:
    """For each percentage the smallest of the times that at least so many of them do not exceed.

    That is the nearest-rank definition: always one of the times, nothing is interpolated. ``None``
    where there are no times.
    """
    if not len(times):
        return (None,) * len(percents)
    # Percentages are held to whole numbers first: 0.95 * 20 is a hair above 19 in binary.
    ranks = [max(0, math.ceil(percent * len(times) / 100) - 1) for percent in percents]
    ordered = np.partition(times, ranks)
    return tuple(float(ordered[rank]) for rank in ranks)


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _rate(number: int, seconds: float) -> float:
    return round(number / seconds, 1) if seconds > 0 else 0.0
