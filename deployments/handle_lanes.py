"""The lanes behind Serve handles: the implementation of ``sentinel.scoring.Lanes`` on a cluster.

A batch is one call to each lane, both at once, with one deadline. Until it passes, a call that met
a dead replica, or one that does not hold the bundle, is sent again: Serve's router has learnt by
then to choose another. A lane that had no answer by the deadline is *out*: batches go on without it
at once instead of each waiting as long again, and a probe puts a row of the last batch to it until
it scores that in time, which ends it. So nothing hangs on a lane, and one is back as soon as it can
do its work.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.lane_server import LaneServer, LaneState
from sentinel.errors import UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

RETRY_PAUSE = 0.01
"""Seconds before a failed call is sent again."""

UNKNOWN_TRIES = 5
"""Replicas asked that do not hold the bundle before a batch goes on without the lane. It is not out
then: batches of another bundle may find theirs."""

GRACE = 0.05
"""Seconds a late answer is still waited for: when the event loop was held up, the deadline and the
answers that came before it are noticed in the same turn."""

PROBE_PAUSE = 0.1
"""Seconds between the questions put to a lane that is out."""

_DOWN = (RayError, RayServeException, grpc.RpcError, UnknownBundle)
"""What a lane that cannot answer now raises; another replica, or a later moment, may."""


@dataclass(slots=True)
class _Lane:
    handle: DeploymentHandle[LaneServer]
    row: NDArray[np.float32] | None = None
    """(1, f) of the last batch, and the bundle it was for: what a probe asks."""
    bundle: str = ""
    out: str = ""
    """Why it is out; empty while it is not."""
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

    @property
    def out(self) -> dict[str, str]:
        """Each lane that is out, with the reason."""
        return {name: lane.out for name, lane in self._lanes.items() if lane.out}

    async def states(self, patience: float) -> dict[str, list[LaneState]]:
        """What every replica of each lane holds; one that does not answer in time has no entry.

        A call to every replica: for the control of a service, not for its requests.
        """
        found = await asyncio.gather(
            *(self._states(lane.handle, patience) for lane in self._lanes.values())
        )
        return dict(zip(self._lanes, found, strict=True))

    async def _score(
        self, name: str, features: NDArray[np.float32], bundle: str
    ) -> NDArray[np.float64] | None:
        lane = self._lanes[name]
        lane.row, lane.bundle = features[:1], bundle
        if lane.out:
            return None
        start = time.perf_counter()
        try:
            scores = await self._in_time(lane, features, bundle)
        except UnknownBundle as error:
            logger.warning("lane %s has no answer: %s", name, _first_line(error))
            return None
        except TimeoutError as error:
            self._put_out(name, str(error))
            return None
        if self._on_time is not None:
            self._on_time(name, time.perf_counter() - start)
        return scores

    async def _in_time(
        self, lane: _Lane, features: NDArray[np.float32], bundle: str
    ) -> NDArray[np.float64]:
        """The lane's answer.

        :raises TimeoutError: there was none by the deadline; says why.
        :raises UnknownBundle: it does not hold the bundle.
        """
        met: list[Exception] = []
        call = asyncio.create_task(_until_answered(lane.handle, features, bundle, met))
        try:
            await asyncio.wait([call], timeout=self._deadline)
            if not call.done():
                await asyncio.wait([call], timeout=GRACE)
        finally:
            if not call.done():
                call.cancel()
        if call.done():
            return call.result()
        late = f"no answer within {self._deadline:g} s"
        raise TimeoutError(f"{late} ({_first_line(met[-1])})" if met else late)

    def _put_out(self, name: str, why: str) -> None:
        lane = self._lanes[name]
        if lane.out:
            return
        lane.out = why
        logger.warning("lane %s is out: %s", name, why)
        lane.probe = asyncio.get_running_loop().create_task(self._probe(name))

    async def _probe(self, name: str) -> None:
        lane, start = self._lanes[name], time.monotonic()
        while not await self._scores_again(name):
            await asyncio.sleep(PROBE_PAUSE)
        lane.out, lane.probe = "", None
        logger.warning("lane %s is back after %.1f s", name, time.monotonic() - start)

    async def _scores_again(self, name: str) -> bool:
        lane = self._lanes[name]
        assert lane.row is not None
        try:
            await self._in_time(lane, lane.row, lane.bundle)
        except (TimeoutError, UnknownBundle):
            return False
        except Exception:  # a probe that ended would leave the lane out for ever
            logger.exception("lane %s cannot be asked", name)
            return False
        return True

    async def _states(
        self, handle: DeploymentHandle[LaneServer], patience: float
    ) -> list[LaneState]:
        try:
            async with asyncio.timeout(patience):
                found = await handle.broadcast("state").results_async(
                    timeout_s=patience, return_exceptions=True
                )
        except (TimeoutError, *_DOWN):
            return []
        return [state for state in found if isinstance(state, LaneState)]


async def _until_answered(
    handle: DeploymentHandle[LaneServer],
    features: NDArray[np.float32],
    bundle: str,
    met: list[Exception],
) -> NDArray[np.float64]:
    """The first answer to a call that is sent until there is one; ``met`` gets what came instead.

    :raises UnknownBundle: ``UNKNOWN_TRIES`` replicas do not hold the bundle.
    """
    unknown = 0
    while True:
        try:
            scores: NDArray[np.float64] = await handle.score.remote(features, bundle)
            return scores
        except UnknownBundle as error:
            met.append(error)
            unknown += 1
            if unknown == UNKNOWN_TRIES:
                raise
        except _DOWN as error:
            if isinstance(error, RayTaskError):  # a mistake in the lane's code, and so ours
                raise
            met.append(error)
        await asyncio.sleep(RETRY_PAUSE)


def _first_line(error: Exception) -> str:
    """Ray's messages end in pages of traces and advice."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
