"""One model of a bundle, served: (n, f) features in, (n,) scores out, and nothing else.

Both deployments are this class, a plain one that needs no Ray; ``lane_deployments`` wraps it twice.
How many replicas there are, what each may use and which bundle it serves stand in the Serve config.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application

from deployments.held_bundles import Held, HeldBundles, Refusal
from deployments.metrics import REPORT_SECONDS, LaneMetrics, every
from deployments.reserved import reserved_cpus
from sentinel.load_report import LoadReport
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Lane

DEPLOYMENTS = {FRAUD_LANE: "XGBoost", NOVELTY_LANE: "IsolationForest"}
"""The name of each lane's deployment, in the Serve config, the dashboard and metrics."""

DEFAULT_BUNDLE = {"bundle": "bundles/transactions"}
"""``user_config`` where the Serve config gives none: no replica starts without a bundle."""

INLINE_ROWS = 512
"""Most rows scored on the event loop, which that stops for about a millisecond; more go to a
thread (handing over costs a tenth of that), so that health checks and small batches still pass."""


class LaneState(msgspec.Struct, frozen=True):
    """What one replica of a lane holds: digests, the current one first, and what it refused."""

    digests: list[str]
    refused: Refusal | None


class LaneServer:
    """Scores with one model, of whichever bundle it holds is asked for. Never starts without."""

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._bundles: HeldBundles[Lane] = HeldBundles(lambda bundle: bundle.lane(lane))
        self._metrics = LaneMetrics()
        self._load = LoadReport(reserved_cpus())
        self._reporting: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serve calls it at the start and when ``user_config`` changes (see ``BundleRef``).

        :raises BundleError: at the start, the bundle cannot be loaded; Serve then reports the
            replica as failed instead of routing to it. Later it never raises, nor waits.
        """
        await self._bundles.follow(user_config, self._loaded)

    def _loaded(self, _: Held[Lane]) -> None:
        if self._reporting is None:
            self._reporting = asyncio.create_task(every(REPORT_SECONDS, self._report))

    def _report(self) -> None:
        current = self._bundles.current
        if current is not None:
            self._metrics.bundle.show(current.digest, self._bundles.refused)

    async def score(self, features: NDArray[np.float32], bundle: str) -> NDArray[np.float64]:
        """(n,) scores in [0, 1] for (n, f) features, by the model of the bundle of this digest.

        :raises UnknownBundle: this replica does not hold it.
        """
        lane = self._bundles.get(bundle, self._lane)
        start = time.perf_counter()
        if len(features) <= INLINE_ROWS:
            scores = lane.score(features)
        else:
            scores = await asyncio.to_thread(lane.score, features)
        self._metrics.score_ms.observe(1000 * (time.perf_counter() - start))
        if len(features):
            self._metrics.rows.inc(len(features))
        self._load.done(len(features))
        return scores

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls it for the autoscaling policy (``deployments.autoscaling``)."""
        return self._load.own_work()

    async def state(self) -> LaneState:
        """What this replica holds."""
        return LaneState(self._bundles.digests, self._bundles.refused)


def lane_deployments() -> dict[str, Application]:
    """Each lane's deployment."""
    return {
        lane: serve.deployment(name=name, user_config=DEFAULT_BUNDLE)(LaneServer).bind(lane)
        for lane, name in DEPLOYMENTS.items()
    }
