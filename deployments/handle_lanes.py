"""The lanes behind Serve handles: the implementation of ``sentinel.scoring.Lanes`` on a cluster."""

import asyncio
import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.lane_server import LaneServer
from sentinel.errors import UnknownBundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Scores

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file


class HandleLanes:
    """Asks both model deployments at once, one call each a batch."""

    def __init__(self, handles: Mapping[str, DeploymentHandle[LaneServer]]) -> None:
        """``handles``: the deployment of each lane, by the lane's name."""
        self._handles = dict(handles)

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """What both lanes say; ``None`` for one that is down or holds another bundle.

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
        lanes = list(self._handles)
        reasons = await asyncio.gather(
            *(self._why_missing(lane, bundle, patience) for lane in lanes)
        )
        return {lane: why for lane, why in zip(lanes, reasons, strict=True) if why}

    async def _score(
        self, lane: str, features: NDArray[np.float32], bundle: str
    ) -> NDArray[np.float64] | None:
        try:
            scores: NDArray[np.float64] = await self._handles[lane].score.remote(features, bundle)
        except UnknownBundle as error:
            logger.warning("lane %s gave no answer: %s", lane, error)
            return None
        except RayTaskError:
            raise
        except (RayError, RayServeException) as error:
            logger.warning("lane %s gave no answer: %s", lane, _first_line(error))
            return None
        return scores

    async def _why_missing(self, lane: str, bundle: str, patience: float) -> str | None:
        try:
            async with asyncio.timeout(patience):
                held = await self._handles[lane].holds.remote(bundle)
        except TimeoutError:
            return f"it did not answer within {patience:g} s"
        except (RayError, RayServeException) as error:
            return _first_line(error)
        return None if held else f"it does not hold bundle {bundle}"


def _first_line(error: Exception) -> str:
    """Ray's messages end in pages of traces and advice."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
