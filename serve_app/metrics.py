"""The metrics of a router, declared once.

What happens for every request is counted in this process and handed to Ray once a second: a call
into Ray's metrics costs more than reading a request. ``docs/metrics.md`` lists them.
"""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.metrics import MILLISECONDS, BundleMetrics
from sentinel.identity import VERDICTS
from sentinel.profile_store import Reception

_ROWS: list[float] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]

PARSE, FEATURES, DECIDE, EXPLAIN, ANSWER = "parse", "features", "decide", "explain", "answer"
"""Stages of a batch beside the lanes, which go by their own names."""


class RouterMetrics:
    """What a router does. ``flush`` hands over what was counted since the last time."""

    def __init__(self) -> None:
        self.bundle = BundleMetrics()
        self._requests = Counter(
            "sentinel_requests",
            description="requests answered to /predict and /predict/batch",
            tag_keys=("route", "status"),  # type: ignore[arg-type]  # Ray means any number
        )
        self._rows = Counter(
            "sentinel_rows",
            description="transactions received: scored, or refused for a field",
            tag_keys=("outcome",),
        )
        self._decisions = Counter(
            "sentinel_decisions", description="decisions made", tag_keys=("decision",)
        )
        self._degraded = Counter(
            "sentinel_degraded_rows",
            description="transactions decided without this lane, or without profiles",
            tag_keys=("lane",),
        )
        self._verdicts = Counter(
            "sentinel_identities",
            description="transactions by what their identity was: new, answered before, waiting "
            "for a twin, or in conflict with another",
            tag_keys=("verdict",),
        )
        self._late = Counter(
            "sentinel_late_rows",
            description="transactions older than the newest of their customer or terminal; exact: "
            "no where what they should see may be gone",
            tag_keys=("exact",),
        )
        self._labels = Counter(
            "sentinel_labels",
            description="labels received, by what became of them",
            tag_keys=("outcome",),
        )
        self._shed = Counter(
            "sentinel_shed",
            description="requests refused for want of room, by the bound that was reached",
            tag_keys=("bound",),
        )
        self._batch_rows = Histogram(
            "sentinel_batch_rows",
            description="transactions scored together",
            boundaries=_ROWS,
        )
        self._wait_ms = Histogram(
            "sentinel_queue_wait_ms",
            description="milliseconds the oldest request of a batch had waited for it",
            boundaries=MILLISECONDS,
        )
        self._stage_ms = Histogram(
            "sentinel_stage_ms",
            description="milliseconds a batch spent in a stage; a lane's with the way there",
            boundaries=MILLISECONDS,
            tag_keys=("stage",),
        )
        self._redis_out = Gauge(
            "sentinel_redis_out", description="1 while Redis cannot be asked for profiles"
        )
        self._redis_unwritten = Gauge(
            "sentinel_redis_unwritten", description="events that wait in this router for Redis"
        )
        self._redis_lost = Gauge(
            "sentinel_redis_lost",
            description="records that this router had no more room for while Redis was out",
        )
        self._queue_rows = Gauge("sentinel_queue_rows", description="transactions that wait")
        self._flying_rows = Gauge("sentinel_flying_rows", description="transactions being scored")
        self._queue_age_ms = Gauge(
            "sentinel_queue_age_ms", description="milliseconds the oldest request has waited"
        )
        self._body_bytes = Gauge("sentinel_body_bytes", description="bytes of request bodies held")
        self._answered: Tally[tuple[str, int]] = Tally()
        self._counted: Tally[tuple[Counter, str, str]] = Tally()

    def answered(self, route: str, status: int) -> None:
        """A request was answered."""
        self._answered[route, status] += 1

    def shed(self, bound: str) -> None:
        """A request was refused because this bound was reached."""
        self._counted[self._shed, "bound", bound] += 1

    def scored(self, rows: int) -> None:
        """So many transactions were scored."""
        self._counted[self._rows, "outcome", "scored"] += rows

    def refused(self, rows: int) -> None:
        """So many transactions were refused for a field."""
        self._counted[self._rows, "outcome", "refused"] += rows

    def decided(self, decision: str, rows: int) -> None:
        """So many transactions got this decision."""
        self._counted[self._decisions, "decision", decision] += rows

    def degraded(self, lane: str, rows: int) -> None:
        """So many transactions were decided without this lane."""
        self._counted[self._degraded, "lane", lane] += rows

    def received(self, reception: Reception) -> None:
        """Profiles took a batch in."""
        for code, count in enumerate(np.bincount(reception.verdicts, minlength=len(VERDICTS))):
            self._counted[self._verdicts, "verdict", VERDICTS[code]] += int(count)
        self._counted[self._late, "exact", "yes"] += reception.late - reception.too_late
        self._counted[self._late, "exact", "no"] += reception.too_late

    def labelled(self, outcomes: Sequence[str]) -> None:
        """Labels came, and this is what became of them."""
        for outcome, count in Tally(outcomes).items():
            self._counted[self._labels, "outcome", outcome] += count

    def flight(self, rows: int, waited: float) -> None:
        """A batch set off; ``waited`` in seconds."""
        self._batch_rows.observe(rows)
        self._wait_ms.observe(1000 * waited)

    def stage(self, name: str, seconds: float) -> None:
        """A batch spent so long in this stage."""
        self._stage_ms.observe(1000 * seconds, {"stage": name})

    def redis(self, figures: Mapping[str, Any]) -> None:
        """How Redis does (``RedisStore.figures``)."""
        self._redis_out.set(figures["out"])
        self._redis_unwritten.set(figures["backlog"])
        self._redis_lost.set(figures["dropped"])

    def flush(self, waiting: int, flying: int, age: float, body_bytes: int) -> None:
        """Hands everything counted to Ray; ``age`` in seconds."""
        for (route, status), count in self._answered.items():
            self._requests.inc(count, {"route": route, "status": str(status)})
        self._answered.clear()
        for (counter, tag, value), count in self._counted.items():
            if count:
                counter.inc(count, {tag: value})
        self._counted.clear()
        self._queue_rows.set(waiting)
        self._flying_rows.set(flying)
        self._queue_age_ms.set(1000 * age)
        self._body_bytes.set(body_bytes)
