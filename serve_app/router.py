"""The ingress of the application: HTTP in front, the lanes behind handles.

It answers by one bundle at a time, and only by one that every replica of both lanes holds: it gets
no requests before they hold its first one, and told of another (``reconfigure``) it loads that and
goes on by the old one until they hold the new one too. A flight takes its bundle along, so that no
answer is made of two.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from deployments.handle_lanes import HandleLanes
from deployments.handle_profiles import HandleProfiles
from deployments.held_bundles import Held, HeldBundles, Refusal
from deployments.lane_server import DEPLOYMENTS, LaneServer, LaneState
from deployments.lanes_here import LanesHere
from deployments.metrics import REPORT_SECONDS, every
from deployments.profile_server import NONE, ProfileServer, ProfileState
from deployments.profile_settings import PROFILES as PROFILE_DEPLOYMENT
from deployments.reserved import reserved_cpus
from sentinel.errors import BundleError, Overloaded
from sentinel.load_report import LoadReport
from sentinel.profile_store import Label
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, LocalLanes
from sentinel.stream_exchange import Contract, Labelled, OtherContract, Scored, TryLater
from serve_app.api import RefusedBundle, create_api
from serve_app.args import AppArgs
from serve_app.bodies import BodyBudget
from serve_app.exposure import check_exposure
from serve_app.feature_log import FeatureLog
from serve_app.flights import Flights
from serve_app.future import FutureCheck
from serve_app.ingress import Ingress
from serve_app.judging import PROFILES, Judging
from serve_app.keys import ApiKeys
from serve_app.labels import LabelReader
from serve_app.metrics import RouterMetrics
from serve_app.node_metrics import NodeMetrics, agent_address
from serve_app.predict import Predictor
from serve_app.serve_config import ROUTER
from serve_app.served import ServedBundle, served_bundle
from serve_app.streaming import StreamDesk

if TYPE_CHECKING:
    from deployments.redis_profiles import RedisProfiles

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

States = Mapping[str, Sequence[LaneState | ProfileState]]
"""What each replica of the lanes and of the profiles says of itself."""

Deployed = TypeVar("Deployed")

UNUSED = "unused"
"""What becomes of a label where the bundle's features need no profiles."""

LANE_PATIENCE = 1.0
"""Seconds to wait for what the lanes say of themselves: whoever asks polls every second or so."""

STATES_AGE = 0.5
"""Seconds that what they said is good for: /ready asks for no key, and each time every replica
would be called."""

REDIS_ROWS = 1_024
"""Most rows of a flight with profiles on Redis, which are read at some 8 KB a row."""

LANES_SECONDS = 100.0
"""Longest wait, at the start, for lanes that hold the bundle: they start at the same time."""

MOVE_PAUSE = 0.1
"""Seconds between two looks at whether the lanes hold the next bundle."""


class FraudRouter:
    """Validates by the bundle, asks the lanes, decides. A plain class; the builder deploys it."""

    def __init__(
        self,
        args: AppArgs,
        profiles: DeploymentHandle[ProfileServer],
        xgboost: DeploymentHandle[LaneServer] | None = None,
        isolation_forest: DeploymentHandle[LaneServer] | None = None,
    ) -> None:
        """Without handles to the models it has both itself.

        :raises Exposed: other machines could reach it and nobody said who may ask.
        :raises KeysError: the file of keys cannot be used.

        Serve reports either as a failure of the replica.
        """
        check_exposure(args, _http_host())
        settings = args.router
        profiles = _quick(profiles)
        self._keys = None if args.api_keys is None else ApiKeys(args.api_keys)
        self._metrics = RouterMetrics()
        self._lanes: HandleLanes | LanesHere = LanesHere(self._models, self._metrics.stage)
        if xgboost is not None and isolation_forest is not None:
            self._lanes = HandleLanes(
                {FRAUD_LANE: _quick(xgboost), NOVELTY_LANE: _quick(isolation_forest)},
                settings.lane_deadline_ms / 1000,
                on_time=self._metrics.stage,
            )
        on_time = self._metrics.stage
        self._keeper = HandleProfiles(profiles, args.profiles.deadline_ms / 1000, on_time)
        self._redis = _redis_profiles(args, on_time) if args.profiles.on_redis else None
        self._profiles = self._redis or self._keeper
        self._future = FutureCheck(args.profiles.max_future_skew_s)
        log = None if args.feature_log is None else FeatureLog(args.feature_log)
        explain = settings.lane_deadline_ms / 1000 if settings.feature_reasons else 0
        judging = Judging(self._lanes, self._profiles, self._metrics, log, explain)
        limits = settings.queue_limits()
        if self._redis is not None:
            limits = replace(limits, flight_rows=min(limits.flight_rows, REDIS_ROWS))
        load = LoadReport(reserved_cpus())
        self._flights = Flights(judging, limits, self._metrics, self._future, load)
        self._bodies = BodyBudget(settings.body_bytes, settings.body_seconds)
        predictor = Predictor(
            self._flights, self._bodies, self._metrics, lambda: self.served, self._future
        )
        self._stream = StreamDesk(self._flights, self._metrics, self._future, lambda: self.served)
        self._ingress = Ingress(predictor, self._metrics, self._keys, lambda: self._api)
        application = serve.get_replica_context().app_name
        self._node_metrics = NodeMetrics(agent_address(), application)
        with_models = isinstance(self._lanes, LanesHere)
        self._bundles: HeldBundles[ServedBundle] = HeldBundles(
            lambda bundle: served_bundle(bundle, with_models)
        )
        self._served: ServedBundle | None = None
        self._api: ASGIApp = FastAPI()
        self._next: ServedBundle | None = None
        self._not_deployed: Refusal | None = None
        self._states: tuple[float, States] = (-STATES_AGE, {})
        self._asking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Serve after the constructor."""
        return self._ingress

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serve calls it at the start and when ``user_config`` changes (see ``BundleRef``).

        :raises BundleError: at the start, the bundle cannot be loaded, or no lane comes to hold it;
            Serve then reports the replica as failed. Later it never raises, nor waits.
        """
        starting = self._served is None
        await self._bundles.follow(user_config, self._loaded)
        if starting:
            await self._wait_for_lanes()
            self._tasks = [
                asyncio.create_task(every(REPORT_SECONDS, self._tick)),
                asyncio.create_task(self._follow()),
            ]

    def _loaded(self, held: Held[ServedBundle]) -> None:
        if self._served is None:
            self._move_to(held.content)
        self._next = held.content

    async def _wait_for_lanes(self) -> None:
        deadline = time.monotonic() + LANES_SECONDS
        while missing := await self.missing():
            if time.monotonic() > deadline:
                said = "; ".join(f"{lane}: {why}" for lane, why in missing.items())
                raise BundleError(f"{self.served.digest} is not held by its lanes: {said}")
            await asyncio.sleep(MOVE_PAUSE)

    def _models(self, digest: str) -> LocalLanes:
        served = self._served
        if served is None or served.digest != digest:  # a flight of the bundle before
            served = self._bundles.get(digest, ROUTER)
        models = served.models
        assert models is not None, "loaded with each bundle where there are no handles"
        return models

    @property
    def served(self) -> ServedBundle:
        """What requests that arrive now are answered by."""
        assert self._served is not None, "Serve calls reconfigure before it sends requests"
        return self._served

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """What became of each label, in order.

        :raises Overloaded: the profiles cannot be reached now.
        """
        if self.served.judge.features.plan is None:
            return [UNUSED] * len(labels)
        try:
            outcomes = await self._profiles.label(labels)
        except Overloaded as error:
            self._metrics.shed(error.bound)
            raise
        self._metrics.labelled(outcomes)
        return outcomes

    async def stream_contract(self) -> Contract:
        """See ``StreamDesk``; these three are for workers of a stream, by handle."""
        return self._stream.contract()

    async def stream_score(
        self, topic: str, schema: str, columns: bytes
    ) -> Scored | TryLater | OtherContract:
        """See ``StreamDesk``."""
        return await self._stream.score(topic, schema, columns)

    async def stream_label(self, records: Sequence[bytes]) -> Labelled | TryLater:
        """See ``StreamDesk``."""
        return await self._stream.label(records, self.label)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls it for the autoscaling policy (``deployments.autoscaling``)."""
        return self._flights.report()

    async def drain(self, patience: float) -> bool:
        """Refuses new requests from now on; whether all under way were answered in time."""
        return await self._ingress.drain(patience)

    async def __del__(self) -> None:
        """Serve awaits it when the replica is stopped in good order."""
        if self._redis is not None:
            await self._redis.close()

    async def refuse(self, bundle: str, reason: str) -> None:
        """Names a bundle that whoever runs the service could not even deploy; without a reason,
        there is none any more."""
        self._not_deployed = Refusal(bundle, reason) if reason else None

    async def missing(self) -> dict[str, str]:
        """What keeps this router from whole answers, with the reason; empty when it is ready."""
        out = {**self._lanes.out}
        if self._profiles.out:
            out[PROFILES] = self._profiles.out
        return {**out, **_lacking(await self._all_states(), self.served.digest)}

    async def profiles(self) -> str:
        """Where the profiles come from: ``none`` where the bundle's features need none; ``cold``,
        ``bundle``, ``history``, ``snapshot`` or ``redis``; ``unknown`` while they do not say."""
        if self.served.judge.features.plan is None:
            return NONE
        states = (await self._all_states()).get(PROFILES, [])
        return next((s.source for s in states if isinstance(s, ProfileState)), "unknown")

    async def refused(self) -> Sequence[RefusedBundle]:
        """Who refused a bundle that should be served, and why; each named once."""
        found: dict[RefusedBundle, None] = {}
        if (kept_out := self._not_deployed) is not None:
            found[RefusedBundle("sentinel serve", kept_out.bundle, kept_out.reason)] = None
        if (own := self._bundles.refused) is not None:
            found[RefusedBundle(ROUTER, own.bundle, own.reason)] = None
        names = {**DEPLOYMENTS, PROFILES: PROFILE_DEPLOYMENT}
        for lane, states in (await self._all_states()).items():
            for refused in (state.refused for state in states if state.refused):
                found[RefusedBundle(names[lane], refused.bundle, refused.reason)] = None
        return list(found)

    async def _all_states(self) -> States:
        """What the replicas behind this one hold, asked at most every ``STATES_AGE``."""
        async with self._asking:
            asked, states = self._states
            if time.monotonic() - asked > STATES_AGE:
                states = await self._ask_states()
                self._states = (time.monotonic(), states)
            return states

    async def _ask_states(self) -> States:
        lanes, profiles = await asyncio.gather(
            self._lanes.states(LANE_PATIENCE), self._keeper.states(LANE_PATIENCE)
        )
        return {**lanes, PROFILES: profiles}

    async def metrics(self) -> bytes:
        """See ``NodeMetrics``."""
        return await self._node_metrics.text()

    def _move_to(self, served: ServedBundle) -> None:
        if self._redis is not None and served.judge.features.plan is not None:
            has_profiles = served.manifest.profiles is not None
            self._redis.follow(served.uri, served.judge.description.name, has_profiles)
        # Both at once: the schema that is shown is the one that is read by.
        self._served, self._api = (
            served,
            create_api(self, served, LabelReader(self._bodies, self._future)),
        )
        logger.warning("answers are now by bundle %s", served.digest)

    async def _follow(self) -> None:
        """Moves to the next bundle once every replica of both lanes holds it."""
        while True:
            await asyncio.sleep(MOVE_PAUSE)
            following = self._next
            if following is None or following.digest == self.served.digest:
                continue
            try:
                states = await self._ask_states()
                if not _lacking(states, following.digest) and following is self._next:
                    self._move_to(following)
            except Exception:
                logger.exception("could not move to bundle %s; tried again", following.digest)

    def _tick(self) -> None:
        queue = self._flights.queue
        self._metrics.flush(queue.waiting_rows, queue.flying_rows, queue.age, self._bodies.held)
        refused = self._bundles.refused or self._not_deployed
        self._metrics.bundle.show(self.served.digest, refused)
        if self._redis is not None and (figures := self._redis.figures()):
            self._metrics.redis(figures)
        if self._keys is not None:
            self._keys.refresh()


def _lacking(replicas: States, digest: str) -> dict[str, str]:
    """Why each deployment that cannot work by this bundle cannot; empty when every replica can."""
    found = {}
    for lane, states in replicas.items():
        lacking = [state for state in states if digest not in state.digests]
        if not states:
            found[lane] = "no replica of it answers"
        elif lacking:
            held = f"{len(lacking)} of {len(states)} replicas"
            found[lane] = f"{held} do not hold bundle {digest}"
    return found


def _quick(handle: DeploymentHandle[Deployed]) -> DeploymentHandle[Deployed]:
    """The same handle, for calls that carry arrays and plain values: Serve's default, cloudpickle,
    is made for functions too, and takes several times as long."""
    quick: DeploymentHandle[Deployed] = handle.options(
        request_serialization="pickle", response_serialization="pickle"
    )
    return quick


def _redis_profiles(args: AppArgs, on_time: Callable[[str, float], object]) -> "RedisProfiles":
    # Importing it takes half a second, which a router without Redis need not spend at its start.
    from deployments.redis_profiles import RedisProfiles

    return RedisProfiles(args.profiles, on_time)


def _http_host() -> str:
    """Where Serve listens; it has no public way to ask."""
    client: Any = _get_global_client()
    host: str = ray.get(client._controller.get_http_config.remote()).host
    return host
