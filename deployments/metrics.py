"""The metrics of a model deployment, declared once.

Ray exports them with the prefix ``ray_`` (counters end in ``_total``) and the tags application,
deployment and replica. ``docs/metrics.md`` lists them. A gauge is on Ray's page only while it is
set again and again (``every``).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.held_bundles import Refusal

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

MILLISECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000]
"""Bounds of every histogram of a time."""


REPORT_SECONDS = 1.0
"""Between two times that gauges are set and counts handed over."""


async def every(seconds: float, report: Callable[[], object]) -> None:
    """Calls ``report`` now and then again, until it is cancelled; a failure ends one call alone."""
    while True:
        try:
            report()
        except Exception:
            logger.exception("a report failed")
        await asyncio.sleep(seconds)


class BundleMetrics:
    """Which bundle a replica serves, and which it refused."""

    def __init__(self) -> None:
        self._serving = Gauge(
            "sentinel_bundle_serving",
            description="1 for the bundle that this replica serves",
            tag_keys=("model_version",),
        )
        self._refused = Gauge(
            "sentinel_bundle_refused",
            description="1 while a bundle is refused that this replica was told to serve",
            tag_keys=("bundle", "reason"),  # type: ignore[arg-type]  # Ray means any number
        )
        self._served: dict[str, str] | None = None
        self._refusal: dict[str, str] | None = None

    def show(self, digest: str, refused: Refusal | None) -> None:
        """``digest`` is served; ``refused``: the last change, if it was refused."""
        served = {"model_version": digest}
        if self._served not in (None, served):
            self._serving.set(0, self._served)
        self._serving.set(1, served)
        self._served = served
        refusal = None
        if refused is not None:
            refusal = {"bundle": refused.bundle, "reason": refused.reason[:200]}
        if self._refusal not in (None, refusal):
            self._refused.set(0, self._refusal)
        if refusal is not None:
            self._refused.set(1, refusal)
        self._refusal = refusal


class ProfileMetrics:
    """What the deployment of the profiles does."""

    def __init__(self) -> None:
        self.bundle = BundleMetrics()
        self._entities = Gauge(
            "sentinel_profile_entities",
            description="entities that have a profile",
            tag_keys=("entity",),
        )
        self._bytes = Gauge("sentinel_profile_bytes", description="bytes of all profiles")
        self._kept = Gauge("sentinel_identities_kept", description="identities remembered")

    def show(self, figures: Mapping[str, Any]) -> None:
        """What the store holds (``MemoryStore.figures``)."""
        for entity, count in figures["entities"].items():
            self._entities.set(count, {"entity": entity})
        self._bytes.set(figures["bytes"])
        self._kept.set(figures["identities"])


class LaneMetrics:
    """What a model deployment does."""

    def __init__(self) -> None:
        self.bundle = BundleMetrics()
        self.rows = Counter("sentinel_lane_rows", description="rows scored by this model")
        self.score_ms = Histogram(
            "sentinel_lane_score_ms",
            description="milliseconds the model took for a batch",
            boundaries=MILLISECONDS,
        )
