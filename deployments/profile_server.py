"""The profiles of all routers, in one process: the deployment ``Profiles``, of one replica.

One process, so that there is one truth, and an order in it; a deployment of its own, so that it
outlives any router. With profiles on Redis it holds none and only sees to it, once, that Redis has
those the bundle came with; the routers then ask Redis themselves.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application

from deployments.held_bundles import Held, HeldBundles, Refusal
from deployments.lane_server import DEFAULT_BUNDLE
from deployments.metrics import REPORT_SECONDS, ProfileMetrics, every
from deployments.profile_settings import ProfileSettings
from deployments.redis_profiles import seed
from sentinel.bundle import Bundle, read_file, write_file
from sentinel.errors import SentinelError
from sentinel.history import history_of
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_snapshot import restore, snapshot
from sentinel.profile_store import Arrivals, Label, MemoryStore, Reception, warm_up
from sentinel.scoring import StoredAnswer

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

PROFILES = "Profiles"
"""The deployment's name, in the Serve config, the dashboard and metrics."""

NONE = "none"
"""The source of profiles of a bundle whose features need none."""

FORGET_SECONDS = 3600.0
"""Between two looks for entities whose time has come."""


class ProfileState(msgspec.Struct, frozen=True):
    """What the replica holds: bundles by digest, and where its profiles are from (``none``,
    ``cold``, ``bundle``, ``history``, ``snapshot`` or ``redis``)."""

    digests: list[str]
    refused: Refusal | None
    source: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The answers to a batch; ``None`` for one not worth keeping."""

    identities: Sequence[tuple[str, str]]
    answers: Sequence[StoredAnswer | None]
    holder: int


class ProfileServer:
    """Keeps profiles and identities for every router. A plain class; the builder deploys it."""

    def __init__(self, settings: ProfileSettings) -> None:
        self._settings = settings
        self._store = MemoryStore(settings.limits())
        self._source = NONE
        self._bundles: HeldBundles[ProfilePlan | None] = HeldBundles(self._load)
        self._metrics = ProfileMetrics()
        self._tasks: list[asyncio.Task[None]] = []
        self._saved = False

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serve calls it at the start and when ``user_config`` changes (see ``BundleRef``).

        :raises BundleError: at the start, the bundle or its profiles cannot be loaded.
        """
        await self._bundles.follow(user_config, self._loaded)

    async def receive(
        self, bundle: str, arrivals: Arrivals, holder: int, settled: Sequence[Settled] = ()
    ) -> Reception:
        """See ``ProfileStore``; ``bundle`` is the digest of the one whose features are wanted.
        ``settled``: answers to earlier batches, which are kept first.

        :raises UnknownBundle: this replica does not hold it.
        """
        self._settle(settled)
        plan = self._bundles.get(bundle, PROFILES)
        assert plan is not None, "only a bundle that has profiles asks for them"
        return self._store.receive(plan, arrivals, holder)

    async def settle(self, settled: Sequence[Settled]) -> None:
        """See ``ProfileStore``."""
        self._settle(settled)

    def _settle(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            self._store.settle(each.identities, each.answers, each.holder)

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``."""
        return self._store.label(labels)

    async def state(self) -> ProfileState:
        """What this replica holds."""
        return ProfileState(self._bundles.digests, self._bundles.refused, self._source)

    async def save(self) -> str:
        """Writes the snapshot that the settings ask for; what came of it, for people, or nothing
        where none is asked for."""
        return self._save()

    def _save(self) -> str:
        place = self._settings.snapshot
        if place is None or self._source == NONE or self._saved:
            return ""
        try:
            write_file(place, snapshot(self._store))
        except SentinelError as error:
            return f"profiles are not saved: {error}"
        self._saved = True
        return f"profiles saved: {len(self._store.profiles):,} entities in {place}"

    def __del__(self) -> None:
        """Serve calls it when the replica is stopped in good order."""
        if said := self._save():
            logger.warning("%s", said)

    def _loaded(self, _: Held[ProfilePlan | None]) -> None:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(every(REPORT_SECONDS, self._report)),
                asyncio.create_task(every(FORGET_SECONDS, self._store.forget)),
            ]

    def _load(self, bundle: Bundle) -> ProfilePlan | None:
        """The plan of a bundle; the profiles of the first that has some are taken with it, while
        nobody asks yet. Later bundles find what was noted since: records know no features."""
        judge = bundle.judge()
        warm_up(judge)
        plan = judge.features.plan
        if plan is not None and self._source == NONE:
            self._source = self._fill(bundle)
            logger.warning("profiles: %s", self._source)
        return plan

    def _fill(self, bundle: Bundle) -> str:
        if self._settings.on_redis:
            return asyncio.run(seed(self._settings, bundle))  # in a thread of its own
        place = self._settings.snapshot
        if place is not None and (saved := read_file(place)) is not None:
            restore(saved, self._store)
            return "snapshot"
        history = history_of(bundle, self._settings.history)
        assert history is not None
        self._store.take_over(history.store)
        return history.source

    def _report(self) -> None:
        current = self._bundles.current
        if current is not None:
            self._metrics.bundle.show(current.digest, self._bundles.refused)
        self._metrics.show(self._store.figures())


def profile_deployment(settings: ProfileSettings) -> Application:
    """The deployment."""
    make = serve.deployment(name=PROFILES, user_config=DEFAULT_BUNDLE, num_replicas=1)
    return make(ProfileServer).bind(settings)
