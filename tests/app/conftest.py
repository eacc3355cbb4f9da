"""The HTTP surface in this process: the real app with both models behind it, and no Ray cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.bundle import Bundle, open_bundle
from sentinel.dataset import load_description
from sentinel.scoring import Lanes, Scores
from serve_app.api import RefusedBundle, create_api
from serve_app.args import RouterSettings
from serve_app.bodies import BodyBudget
from serve_app.flights import Flights
from serve_app.ingress import Ingress
from serve_app.keys import ApiKeys
from serve_app.metrics import RouterMetrics
from serve_app.openapi import example
from serve_app.predict import Predictor
from serve_app.served import served_bundle

Result = TypeVar("Result")


class GatedLanes:
    """Both models of a bundle in this process, which answer when let."""

    def __init__(self, bundle: Bundle) -> None:
        self._lanes = bundle.lanes()
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[int] = []
        self.missing: set[str] = set()

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        self.asked.append(len(features))
        await self.open.wait()
        scores = await self._lanes(features, bundle)
        return Scores(
            None if "xgboost" in self.missing else scores.fraud,
            None if "isolation_forest" in self.missing else scores.anomaly,
        )


@dataclass
class StillRouter:
    """What the API asks a router for, as the test says."""

    lacks: dict[str, str] = field(default_factory=dict)
    refusals: list[RefusedBundle] = field(default_factory=list)

    async def missing(self) -> dict[str, str]:
        return self.lacks

    async def refused(self) -> Sequence[RefusedBundle]:
        return self.refusals

    async def metrics(self) -> bytes:
        return b"# of the node\n"


@dataclass
class Scene:
    """The app, what stands behind it, and a client."""

    lanes: GatedLanes
    router: StillRouter
    ingress: Ingress
    flights: Flights
    bodies: BodyBudget
    client: httpx.AsyncClient

    async def predict(self, row: Any, **headers: str) -> httpx.Response:
        return await self.client.post("/predict", json=row, headers=headers)


Run = Callable[..., Any]


@pytest.fixture
def row() -> dict[str, Any]:
    """A transaction that the ``transactions`` bundle accepts."""
    return example(load_description("transactions"))


@pytest.fixture
def run(transactions_bundle: str) -> Run:
    """Runs ``scene(Scene)`` with an app of its own; keywords are settings, ``keys`` a file."""

    def run(
        scene: Callable[[Scene], Awaitable[Result]], keys: str | None = None, **settings: Any
    ) -> Result:
        return asyncio.run(_run(open_bundle(transactions_bundle), scene, keys, settings))

    return run


async def _run(
    bundle: Bundle,
    scene: Callable[[Scene], Awaitable[Result]],
    keys: str | None,
    settings: dict[str, Any],
) -> Result:
    served = served_bundle(bundle)
    lanes, router, metrics = GatedLanes(bundle), StillRouter(), RouterMetrics()
    chosen = RouterSettings(**settings)
    as_lanes: Lanes = lanes
    flights = Flights(as_lanes, chosen.queue_limits(), metrics)
    bodies = BodyBudget(chosen.body_bytes, chosen.body_seconds)
    api = create_api(router, served)
    predictor = Predictor(flights, bodies, metrics, lambda: served)
    ingress = Ingress(predictor, metrics, ApiKeys(keys) if keys else None, lambda: api)
    transport = httpx.ASGITransport(ingress)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await scene(Scene(lanes, router, ingress, flights, bodies, client))
