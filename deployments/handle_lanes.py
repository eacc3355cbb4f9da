"""The lanes behind Serve handles: the implementation of ``sentinel.scoring.Lanes`` on a cluster.

A batch is one call to each lane, both at once, each guarded (see ``guarded``): a lane that is late
is left out of the answers until it scores a row of the last batch in time.
"""

import asyncio
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from deployments.guarded import Guarded, states_of
from deployments.lane_server import LaneServer, LaneState
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores


class HandleLanes:
    """Asks both model deployments at once, one call each a batch."""

    def __init__(
        self,
        handles: Mapping[str, DeploymentHandle[LaneServer]],
        deadline: float,
        on_time: Callable[[str, float], object] | None = None,
    ) -> None:
        """``handles``: the deployment of each lane, by the lane's name.

        ``deadline``: seconds a batch waits for its lanes, all retries included. ``on_time`` is told
        how long each call took.
        """
        self._handles = dict(handles)
        self._score_of = {name: handle.score for name, handle in handles.items()}
        self._guards = {name: Guarded(name, deadline, on_time) for name in handles}

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """What both lanes say; ``None`` for one that is out.

        An error in the lane's own code is raised: it is a mistake of ours, and no answer should
        hide it.
        """
        fraud, anomaly = await asyncio.gather(
            self._scores(FRAUD_LANE, features, bundle),
            self._scores(NOVELTY_LANE, features, bundle),
        )
        return Scores(fraud, anomaly)

    @property
    def out(self) -> dict[str, str]:
        """Each lane that is out, with the reason."""
        return {name: guard.out for name, guard in self._guards.items() if guard.out}

    async def states(self, patience: float) -> dict[str, list[LaneState]]:
        """What every replica of each lane holds; one that does not answer in time has no entry."""
        found = await asyncio.gather(
            *(states_of(handle, LaneState, patience) for handle in self._handles.values())
        )
        return dict(zip(self._handles, found, strict=True))

    async def _scores(
        self, name: str, features: NDArray[np.float32], bundle: str
    ) -> NDArray[np.float64] | None:
        score, row = self._score_of[name], features[:1]
        return await self._guards[name].ask(
            lambda: score.remote(features, bundle), lambda: score.remote(row, bundle)
        )
