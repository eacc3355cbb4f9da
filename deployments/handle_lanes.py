"""The lanes behind Serve handles: the implementation of ``sentinel.scoring.Lanes`` on a cluster.

A batch is one call to each lane, both at once, with one deadline. Until it passes, a call that met
a dead replica, or one that does not hold the bundle, is sent again: Serve's router has learnt by
then to choose another. A lane that had no answer by the deadline is *out*: batches go on without it
at once instead of each waiting as long again, and a probe asks it until it can score with the
bundle, which ends that. So nothing hangs on a lane, and a lane is back as soon as it answers.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.lane_server import LaneServer, LaneState
from sentinel.errors import UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores

Answer = TypeVar("Answer")

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

RETRY_PAUSE = 0.01
"""Seconds before a failed call is sent again."""

PROBE_PAUSE = 0.1
"""Seconds between the questions put to a lane that is out."""

PROBE_PATIENCE = 1.0
"""Seconds a probe waits for its answer. Longer than a batch: a lane that is busy is not gone."""

_DOWN = (RayError, RayServeException, grpc.RpcError, UnknownBundle)
"""What a lane that cannot answer now raises; another replica, or a later moment, may."""


@dataclass(slots=True)
class _Lane:
    handle: DeploymentHandle[LaneServer]
    wanted: str = ""
    """Digest of the bundle that batches are scored with now."""
    out: bool = False
    probe: "asyncio.Task[None] | None" = None


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
        self._lanes = {name: _Lane(handle) for name, handle in handles.items()}
        self._deadline = deadline
        self._on_time = on_time

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """What both lanes say; ``None`` for one that is out.

        An error in the lane's own code is raised: it is a mistake of ours, and no answer should
        hide it.
        """
        fraud, anomaly = await asyncio.gather(
            self._score(FRAUD_LANE, features, bundle),
            self._score(NOVELTY_LANE, features, bundle),
        )
        return Scores(fraud, anomaly)

    async def missing(self, bundle: str, patience: float) -> dict[str, str]:
        """Why each lane that cannot score with this bundle cannot; empty when all can.

        ``patience``: seconds to wait for the lanes' answers.
        """
        reasons = await asyncio.gather(
            *(self._why_missing(name, bundle, patience) for name in self._lanes)
        )
        return {lane: why for lane, why in zip(self._lanes, reasons, strict=True) if why}

    async def states(self, patience: float) -> dict[str, list[LaneState]]:
        """What every replica of each lane holds; one that does not answer in time has no entry."""
        found = await asyncio.gather(
            *(self._states(lane.handle, patience) for lane in self._lanes.values())
        )
        return dict(zip(self._lanes, found, strict=True))

    async def _score(
        self, name: str, features: NDArray[np.float32], bundle: str
    ) -> NDArray[np.float64] | None:
        lane = self._lanes[name]
        lane.wanted = bundle
        if lane.out:
            return None
        start = time.perf_counter()
        why = ""
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    try:
                        scores = await lane.handle.score.remote(features, bundle)
                        if self._on_time is not None:
                            self._on_time(name, time.perf_counter() - start)
                        return scores
                    except _DOWN as error:
                        if _is_our_mistake(error):
                            raise
                        why = _first_line(error)
                        await asyncio.sleep(RETRY_PAUSE)
        except TimeoutError:
            self._put_out(name, why or f"no answer within {self._deadline:g} s")
            return None

    def _put_out(self, name: str, why: str) -> None:
        lane = self._lanes[name]
        if lane.out:
            return
        lane.out = True
        logger.warning("lane %s is out: %s", name, why)
        lane.probe = asyncio.get_running_loop().create_task(self._probe(name))

    async def _probe(self, name: str) -> None:
        lane, start = self._lanes[name], time.monotonic()
        while not await self._answers(name, lane.wanted):
            await asyncio.sleep(PROBE_PAUSE)
        lane.out, lane.probe = False, None
        logger.warning("lane %s is back after %.1f s", name, time.monotonic() - start)

    async def _answers(self, name: str, bundle: str) -> bool:
        try:
            return await self._why_missing(name, bundle, PROBE_PATIENCE) is None
        except Exception:  # a probe that ended would leave the lane out for ever
            logger.exception("lane %s cannot be asked", name)
            return False

    async def _why_missing(self, name: str, bundle: str, patience: float) -> str | None:
        try:
            state = await _within(patience, self._lanes[name].handle.state.remote())
        except TimeoutError:
            return f"it did not answer within {patience:g} s"
        except _DOWN as error:
            return _first_line(error)
        return None if bundle in state.digests else f"it does not hold bundle {bundle}"

    async def _states(
        self, handle: DeploymentHandle[LaneServer], patience: float
    ) -> list[LaneState]:
        try:
            answers = handle.broadcast("state").results_async(
                timeout_s=patience, return_exceptions=True
            )
            found = await _within(patience, answers)
        except (TimeoutError, *_DOWN):
            return []
        return [state for state in found if isinstance(state, LaneState)]


async def _within(patience: float, answer: Awaitable[Answer]) -> Answer:
    async with asyncio.timeout(patience):
        return await answer


def _is_our_mistake(error: Exception) -> bool:
    """Whether it was raised by the lane's code, and not because the lane is not what it was."""
    return isinstance(error, RayTaskError) and not isinstance(error, UnknownBundle)


def _first_line(error: Exception) -> str:
    """Ray's messages end in pages of traces and advice."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
