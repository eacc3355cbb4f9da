"""Both models in the process that asks: ``sentinel.scoring.Lanes`` for ``placement: together``."""

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deployments.lane_server import INLINE_ROWS, LaneState
from sentinel.scoring import LocalLanes, Scores


class LanesHere:
    """Scores in this process, as a lane's replica would: small batches at once, others in a
    thread. It is never out and never lacks a bundle that its process holds."""

    def __init__(self, models: Callable[[str], LocalLanes]) -> None:
        """``models`` gives those of the bundle of a digest, or raises ``UnknownBundle``."""
        self._models = models

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """What both lanes say."""
        models = self._models(bundle)
        if len(features) <= INLINE_ROWS:
            return models.score(features)
        return await asyncio.to_thread(models.score, features)

    @property
    def out(self) -> dict[str, str]:
        """No lane."""
        return {}

    async def states(self, _: float) -> dict[str, list[LaneState]]:
        """No deployment has a lane."""
        return {}
