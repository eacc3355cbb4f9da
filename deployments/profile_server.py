"""The profiles of all routers, in one process: the deployment ``Profiles``, of one replica.

One process, so that there is one truth, and an order in it; a deployment of its own, so that it
outlives any router. With profiles on Redis it holds none and only sees to it, once, that Redis has
those the bundle came with; the routers then ask Redis themselves.
"""

import asyncio
import gc
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
from deployments.profile_settings import PROFILES, ProfileSettings
from sentinel.bundle import Bundle, check_writable, read_file, write_file
from sentinel.errors import SentinelError
from sentinel.history import history_of
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_snapshot import restore, snapshot
from sentinel.profile_store import Arrivals, Label, MemoryStore, Reception, warm_up
from sentinel.scoring import StoredAnswer

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

NONE = "none"
"""The source of profiles of a bundle whose features need none."""

LABELS_AT_ONCE = 500
"""Labels noted in one turn of the event loop: some 5 ms."""

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


@dataclass(frozen=True, slots=True)
class Missed:
    """A batch that was judged without profiles, and is still to be noted."""

    bundle: str
    arrivals: Arrivals
    holder: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a bundle brings: its plan, and profiles of entities that may not be kept yet."""

    plan: ProfilePlan | None
    more: MemoryStore | None = None


class ProfileServer:
    """Keeps profiles and identities for every router. A plain class; the builder deploys it."""

    def __init__(self, settings: ProfileSettings) -> None:
        self._settings = settings
        self._store = MemoryStore(settings.limits())
        self._source = NONE
        self._bundles: HeldBundles[_Loaded] = HeldBundles(self._load)
        self._metrics = ProfileMetrics()
        self._tasks: list[asyncio.Task[None]] = []
        self._saved = False

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serve calls it at the start and when ``user_config`` changes (see ``BundleRef``).

        :raises BundleError: at the start, the bundle or its profiles cannot be loaded.
        """
        await self._bundles.follow(user_config, self._loaded)

    async def receive(
        self,
        bundle: str,
        arrivals: Arrivals,
        holder: int,
        settled: Sequence[Settled] = (),
    ) -> Reception:
        """See ``ProfileStore``; ``bundle`` is the digest of the one whose features are wanted.
        ``settled``: answers to earlier batches, which are kept first.

        :raises UnknownBundle: this replica does not hold it.
        """
        plan = self._plan(bundle)
        self._settle(settled)
        return self._store.receive(plan, arrivals, holder)

    async def note(self, missed: Sequence[Missed]) -> None:
        """Notes transactions that were judged without profiles. Those noted already count once.

        What counts is what happened, so those of a bundle that is not held any more are noted by
        the current one's plan, if they have all that it needs.
        """
        for each in missed:
            plan = self._plan_for(each)
            if plan is None:
                lost = f"{len(each.arrivals)} transactions judged by bundle {each.bundle}"
                logger.warning("profiles: %s are not noted: it is not held", lost)
                continue
            self._store.receive(plan, each.arrivals, each.holder)
            nothing = [None] * len(each.arrivals)
            self._store.settle(each.arrivals.identities, nothing, each.holder)

    def _plan_for(self, missed: Missed) -> ProfilePlan | None:
        if missed.bundle in self._bundles.digests:
            return self._plan(missed.bundle)
        current = self._bundles.current
        plan = None if current is None else current.content.plan
        return plan if plan is not None and set(plan.keys) <= set(missed.arrivals.keys) else None

    def _plan(self, bundle: str) -> ProfilePlan:
        plan = self._bundles.get(bundle, PROFILES).plan
        assert plan is not None, "only a bundle that has profiles asks for them"
        return plan

    async def settle(self, settled: Sequence[Settled]) -> None:
        """See ``ProfileStore``."""
        self._settle(settled)

    def _settle(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            self._store.settle(each.identities, each.answers, each.holder)

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``."""
        outcomes: list[str] = []
        for start in range(0, len(labels), LABELS_AT_ONCE):
            outcomes += self._store.label(labels[start : start + LABELS_AT_ONCE])
            await asyncio.sleep(0)  # batches of transactions come in between
        return outcomes

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

    def _loaded(self, held: Held[_Loaded]) -> None:
        if held.content.more is not None:
            self._store.take_missing(held.content.more)
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(every(REPORT_SECONDS, self._report)),
                asyncio.create_task(every(FORGET_SECONDS, self._store.forget)),
            ]

    def _load(self, bundle: Bundle) -> _Loaded:
        """The plan of a bundle; the profiles of the first that has some are taken with it, while
        nobody asks yet. Later bundles find what was noted since, and bring the profiles of entity
        keys that none before them had."""
        judge = bundle.judge()
        warm_up(judge)
        plan = judge.features.plan
        if plan is not None and self._source == NONE:
            self._source = self._fill(bundle)
            # What was loaded stays: looking through it for garbage would stop every batch for long.
            gc.collect()
            gc.freeze()
            logger.warning("profiles: %s", self._source)
            return _Loaded(plan)
        packed = bundle.profiles
        if plan is None or packed is None or self._settings.on_redis:
            return _Loaded(plan)
        lacking = set(plan.keys) - set(self._store.profiles.logs)
        if not lacking:
            return _Loaded(plan)
        more = MemoryStore(self._settings.limits())
        restore(packed, more, lacking)
        return _Loaded(plan, more)

    def _fill(self, bundle: Bundle) -> str:
        if self._settings.on_redis:
            from deployments.redis_profiles import seed  # half a second, where it is needed

            return asyncio.run(seed(self._settings, bundle))  # in a thread of its own
        place = self._settings.snapshot
        if place is not None:
            check_writable(place)
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
