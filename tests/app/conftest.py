"""The HTTP surface in this process: the real app with both models behind it, and no Ray cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sentinel.answers import ARROW
from sentinel.bundle import Bundle, open_bundle
from sentinel.dataset import load_description
from sentinel.errors import Overloaded
from sentinel.history import history_of
from sentinel.load_report import LoadReport
from sentinel.profile_store import Arrivals, Label, MemoryStore, Reception, without_profiles
from sentinel.scoring import Judge, Lanes, Scores, StoredAnswer
from serve_app.api import RefusedBundle, create_api
from serve_app.args import RouterSettings
from serve_app.bodies import BodyBudget
from serve_app.flights import Flights
from serve_app.future import FutureCheck
from serve_app.ingress import Ingress
from serve_app.judging import Judging
from serve_app.keys import ApiKeys
from serve_app.labels import LabelReader
from serve_app.metrics import RouterMetrics
from serve_app.openapi import example
from serve_app.predict import Predictor
from serve_app.served import served_bundle
from serve_app.streaming import StreamDesk

Result = TypeVar("Result")


class GatedLanes:
    """Both models of a bundle in this process, which answer when let."""

    def __init__(self, bundle: Bundle) -> None:
        self._lanes = bundle.lanes()
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[int] = []
        self.missing: set[str] = set()
        self.failure: Exception | None = None

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        self.asked.append(len(features))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        scores = await self._lanes(features, bundle)
        return Scores(
            None if "xgboost" in self.missing else scores.fraud,
            None if "isolation_forest" in self.missing else scores.anomaly,
        )


class MemoryProfiles:
    """Profiles in this process, as a router sees them."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.missing = ""
        self.keeps = True
        """Whether an answer survives this process."""

    async def receive(self, judge: Judge, arrivals: Arrivals, holder: int) -> Reception:
        assert judge.features.plan is not None
        if self.missing:
            return without_profiles(judge.features.plan, arrivals, self.missing)
        return self.store.receive(judge.features.plan, arrivals, holder)

    async def settle(
        self, arrivals: Arrivals, answers: Sequence[StoredAnswer | None], holder: int
    ) -> bool:
        if not self.missing:
            self.store.settle(arrivals.identities, answers, holder)
        return self.keeps and not self.missing

    async def label(self, labels: Sequence[Label]) -> list[str]:
        if self.missing:
            raise Overloaded("profiles", self.missing)
        return self.store.label(labels)


@dataclass
class StillRouter:
    """What the API asks a router for, as the test says."""

    lacks: dict[str, str] = field(default_factory=dict)
    refusals: list[RefusedBundle] = field(default_factory=list)
    store: MemoryProfiles | None = None

    async def missing(self) -> dict[str, str]:
        return self.lacks

    async def refused(self) -> Sequence[RefusedBundle]:
        return self.refusals

    async def profiles(self) -> str:
        return "none"

    async def label(self, labels: Sequence[Label]) -> list[str]:
        return ["unused"] * len(labels) if self.store is None else await self.store.label(labels)

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
    profiles: MemoryProfiles
    stream: StreamDesk

    async def predict(self, row: Any, **headers: str) -> httpx.Response:
        return await self.client.post("/predict", json=row, headers=headers)

    async def batch(self, *rows: Any) -> Any:
        """What these rows get as a JSON list."""
        answer = await self.client.post("/predict/batch", json=rows)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def arrow(self, *rows: Any) -> list[dict[str, Any]]:
        """What these rows get as an Arrow stream, row by row."""
        table = pa.Table.from_pylist(list(rows))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body, headers = bytes(sink.getvalue()), {"content-type": ARROW}
        answer = await self.client.post("/predict/batch", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        with pa.ipc.open_stream(answer.content) as reader:
            return reader.read_all().to_pylist()

    def counted(self, row: Any) -> dict[str, int]:
        """How often the customer and the terminal of a row have been seen."""
        logs = self.profiles.store.profiles.logs
        return {entity: len(log.records(row[entity])) for entity, log in logs.items()}


def numbered(row: dict[str, Any], number: int, **changes: Any) -> dict[str, Any]:
    """Another transaction like it."""
    return {**row, "transaction_id": f"t{number}", **changes}


async def until(done: Callable[[], Any]) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


Run = Callable[..., Any]


@pytest.fixture
def row() -> dict[str, Any]:
    """A transaction that the ``transactions`` bundle accepts."""
    return example(load_description("transactions"))


@pytest.fixture
def run(plain_bundle: str) -> Run:
    """Runs ``scene(Scene)`` with an app of its own; keywords are settings, ``keys`` a file."""

    def run(
        scene: Callable[[Scene], Awaitable[Result]], keys: str | None = None, **settings: Any
    ) -> Result:
        return asyncio.run(_run(open_bundle(plain_bundle), scene, keys, None, settings))

    return run


@pytest.fixture
def run_profiles(transactions_bundle: str) -> Run:
    """The same by a bundle whose features need profiles, which are those in the bundle, or with
    ``cold=True`` nobody's."""

    def run(
        scene: Callable[[Scene], Awaitable[Result]],
        keys: str | None = None,
        cold: bool = False,
        **settings: Any,
    ) -> Result:
        bundle = open_bundle(transactions_bundle)
        history = None if cold else history_of(bundle)
        store = MemoryStore() if history is None else history.store
        return asyncio.run(_run(bundle, scene, keys, MemoryProfiles(store), settings))

    return run


async def scene_of(bundle: Bundle, scene: Callable[[Scene], Awaitable[Result]]) -> Result:
    """Runs a scene by this bundle, without keys and with nobody's profiles."""
    return await _run(bundle, scene, None, None, {})


async def _run(
    bundle: Bundle,
    scene: Callable[[Scene], Awaitable[Result]],
    keys: str | None,
    profiles: MemoryProfiles | None,
    settings: dict[str, Any],
) -> Result:
    served = served_bundle(bundle)
    lanes, router, metrics = GatedLanes(bundle), StillRouter(store=profiles), RouterMetrics()
    profiles = profiles or MemoryProfiles(MemoryStore())
    chosen = RouterSettings(**settings)
    as_lanes: Lanes = lanes
    future = FutureCheck(300)
    judging = Judging(as_lanes, profiles, metrics)
    flights = Flights(judging, chosen.queue_limits(), metrics, future, LoadReport(1.0))
    bodies = BodyBudget(chosen.body_bytes, chosen.body_seconds)
    api = create_api(router, served, LabelReader(bodies, future))
    predictor = Predictor(flights, bodies, metrics, lambda: served, future)
    ingress = Ingress(predictor, metrics, ApiKeys(keys) if keys else None, lambda: api)
    transport = httpx.ASGITransport(ingress)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        stream = StreamDesk(flights, metrics, future, lambda: served)
        return await scene(Scene(lanes, router, ingress, flights, bodies, client, profiles, stream))
