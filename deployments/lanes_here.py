"""Both models in the process that asks: ``sentinel.scoring.Lanes`` for ``placement: together``."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deployments.lane_server import LaneState
from sentinel.scoring import LocalLanes, Scores

MODELS = "models"
"""The stage of both models, where they stand together."""

INLINE_ROWS = 256
"""Most rows scored on the event loop, which both models stop for two milliseconds or so; more go to
a thread."""


class LanesHere:
    """Scores in this process, as a lane's replica would: small batches at once, others in a
    thread. It is never out and never lacks a bundle that its process holds."""

    def __init__(
        self,
        models: Callable[[str], LocalLanes],
        on_time: Callable[[str, float], object] = lambda *_: None,
    ) -> None:
        """``models`` gives those of the bundle of a digest, or raises ``UnknownBundle``;
        ``on_time`` is told how long ``MODELS`` took."""
        self._models = models
        self._on_time = on_time

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """What both lanes say."""
        models, start = self._models(bundle), time.perf_counter()
        if len(features) <= INLINE_ROWS:
            scores = models.score(features)
        else:
            scores = await asyncio.to_thread(models.score, features)
        self._on_time(MODELS, time.perf_counter() - start)
        return scores

    @property
    def out(self) -> dict[str, str]:
        """No lane."""
        return {}

    async def states(self, _: float) -> dict[str, list[LaneState]]:
        """No deployment has a lane."""
        return {}
