"""The metrics of the stream, declared once; ``docs/metrics.md`` lists them.

Ray exports them with the prefix ``ray_`` (counters end in ``_total``).
"""

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from kafka_ingest.meter import Meter
from kafka_ingest.outgoing import Counts

_ROWS: list[float] = [1, 8, 64, 256, 1024, 2048, 4096, 8192, 16384]
_SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]


class WorkerMetrics(Meter):
    """Of one worker; ``slot`` is its number in the pool, or ``labels``."""

    def __init__(self, slot: str) -> None:
        super().__init__()
        self._records = Counter(
            "sentinel_ingest_records",
            description="records whose fate is committed: scored or dead letters",
            tag_keys=("slot",),
        )
        self._decisions = Counter(
            "sentinel_ingest_decisions", description="decisions committed", tag_keys=("slot",)
        )
        self._dead = Counter(
            "sentinel_ingest_dead_letters",
            description="records committed to the dead letters",
            tag_keys=("slot",),
        )
        self._commits = Counter(
            "sentinel_ingest_commits", description="transactions committed", tag_keys=("slot",)
        )
        self._aborts = Counter(
            "sentinel_ingest_aborts",
            description="transactions given up, whose records were done again",
            tag_keys=("slot",),
        )
        self._waits = Counter(
            "sentinel_ingest_waits",
            description="times a batch had to wait: no room or no router (shed), or something that "
            "answers rest on was missing (degraded)",
            tag_keys=("slot", "why"),
        )
        self._batch_rows = Histogram(
            "sentinel_ingest_batch_rows",
            description="records read together",
            boundaries=_ROWS,
            tag_keys=("slot",),
        )
        self._seconds = Histogram(
            "sentinel_ingest_decision_seconds",
            description="seconds from a record's timestamp to its committed decision, of the "
            "oldest record of each batch",
            boundaries=_SECONDS,
            tag_keys=("slot",),
        )
        self._slot = {"slot": slot}

    def batch(self, records: int) -> None:
        """See ``Meter``."""
        super().batch(records)
        self._batch_rows.observe(records, self._slot)

    def waits(self, why: str) -> None:
        """See ``Meter``."""
        super().waits(why)
        self._waits.inc(1, {**self._slot, "why": why})

    def committed(self, counts: Counts, waits: Sequence[float]) -> None:
        """See ``Meter``."""
        super().committed(counts, waits)
        self._commits.inc(1, self._slot)
        added = (
            (self._records, counts.records),
            (self._decisions, counts.decisions),
            (self._dead, counts.dead_letters),
        )
        for counter, count in added:
            if count:
                counter.inc(count, self._slot)
        for seconds in waits:
            self._seconds.observe(seconds, self._slot)

    def aborted(self) -> None:
        """See ``Meter``."""
        super().aborted()
        self._aborts.inc(1, self._slot)


class PoolMetrics:
    """Of the pool, by the one who supervises it."""

    def __init__(self) -> None:
        self._lag = Gauge(
            "sentinel_ingest_lag", description="records from what is committed to the topic's end"
        )
        self._workers = Gauge("sentinel_ingest_workers", description="workers that run")
        self._wanted = Gauge(
            "sentinel_ingest_workers_wanted", description="workers that there should be"
        )
        self._restarts = Counter(
            "sentinel_ingest_restarts", description="workers that failed and were started again"
        )

    def show(self, lag: float | None, workers: int, wanted: int) -> None:
        """How the pool stands."""
        if lag is not None:
            self._lag.set(lag)
        self._workers.set(workers)
        self._wanted.set(wanted)

    def restarted(self) -> None:
        """A worker failed, and its slot gets another."""
        self._restarts.inc(1)
