"""One model of a bundle, served: (n, f) features in, (n,) scores out, and nothing else.

Both deployments are this class, a plain one that needs no Ray; ``lane_deployments`` wraps it twice.
How many replicas there are and what each may use stands in the Serve config, not here.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray
from ray import serve
from ray.serve import Application

from sentinel.bundle import open_bundle
from sentinel.errors import UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

DEPLOYMENTS = {FRAUD_LANE: "XGBoost", NOVELTY_LANE: "IsolationForest"}
"""The name of each lane's deployment, in the Serve config, the dashboard and metrics."""

INLINE_ROWS = 512
"""Most rows scored on the event loop, which that stops for about a millisecond; more go to a
thread (handing over costs a tenth of that), so that health checks and small batches still pass."""


class LaneServer:
    """Scores with one model of one bundle. Never starts without it."""

    def __init__(self, bundle: str, lane: str) -> None:
        """Opens the bundle at the URI ``bundle`` and loads the model of ``lane``.

        :raises BundleError: it cannot be opened, or has no such model; Serve then reports the
            replica as failed instead of routing to it.
        """
        opened = open_bundle(bundle)
        self._digest = opened.digest
        self._lane = opened.lane(lane)

    async def score(self, features: NDArray[np.float32], bundle: str) -> NDArray[np.float64]:
        """(n,) scores in [0, 1] for (n, f) features, by the model of the bundle of this digest.

        :raises UnknownBundle: this replica holds another one.
        """
        if bundle != self._digest:
            raise UnknownBundle(self._lane.name, bundle, self._digest)
        if len(features) <= INLINE_ROWS:
            return self._lane.score(features)
        return await asyncio.to_thread(self._lane.score, features)

    async def holds(self, bundle: str) -> bool:
        """Whether this replica can score with the bundle of this digest."""
        return bundle == self._digest


def lane_deployments(bundle: str) -> dict[str, Application]:
    """Each lane's deployment, bound to the bundle at this URI."""
    return {
        lane: serve.deployment(name=name)(LaneServer).bind(bundle, lane)
        for lane, name in DEPLOYMENTS.items()
    }
