"""The ingress of the application: HTTP in front, the lanes behind handles."""

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from deployments.handle_lanes import HandleLanes
from deployments.lane_server import LaneServer
from sentinel.bundle import open_bundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Decisions
from sentinel.transactions import Transactions
from serve_app.api import create_api

READY_PATIENCE = 1.0
"""Seconds ``/ready`` waits for a lane: whoever asks polls every second or so."""


class FraudRouter:
    """Validates by the bundle, asks the lanes, decides. A plain class; the builder deploys it."""

    def __init__(
        self,
        bundle: str,
        xgboost: DeploymentHandle[LaneServer],
        isolation_forest: DeploymentHandle[LaneServer],
    ) -> None:
        """Opens the bundle at the URI ``bundle``.

        :raises BundleError: it cannot be opened; Serve then reports the replica as failed.
        """
        opened = open_bundle(bundle)
        self.judge = opened.judge()
        self.manifest = opened.manifest
        self._lanes = HandleLanes({FRAUD_LANE: xgboost, NOVELTY_LANE: isolation_forest})

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve after the constructor, when the bundle's schema is known."""
        return create_api(self)

    async def score(self, transactions: Transactions) -> Decisions:
        """The decisions on n >= 0 transactions."""
        return await self.judge.score(transactions, self._lanes)

    async def missing(self) -> dict[str, str]:
        """What keeps this router from answering, with the reason; empty when it is ready."""
        return await self._lanes.missing(self.judge.digest, READY_PATIENCE)
