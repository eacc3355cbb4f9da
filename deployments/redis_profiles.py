"""Profiles on Redis, as a router asks them: one store for each dataset description it serves."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from deployments.profile_settings import ProfileSettings
from sentinel.bundle import Bundle, open_bundle
from sentinel.errors import BundleError, Overloaded
from sentinel.history import COLD, history_of
from sentinel.identity import NEW
from sentinel.profile_snapshot import snapshot
from sentinel.profile_store import Arrivals, Label, MemoryStore, Reception
from sentinel.redis_settings import RedisSettings
from sentinel.redis_store import RedisStore
from sentinel.scoring import Judge, StoredAnswer

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file


class RedisProfiles:
    """``ProfileStore`` on the Redis of the settings."""

    def __init__(
        self, settings: ProfileSettings, on_time: Callable[[str, float], object] | None = None
    ) -> None:
        """``on_time`` is told how long each batch waited."""
        self._uri = settings.redis_uri()
        self._settings = settings
        self._on_time = on_time
        self._stores: dict[str, RedisStore] = {}
        self._source: dict[str, str | None] = {}
        self._current: RedisStore | None = None
        self._under_way: dict[int, RedisStore] = {}

    def follow(self, bundle: str, name: str, has_profiles: bool) -> None:
        """From now on labels are of this description; a Redis that lost everything is filled
        from the bundle at this URI, if it has profiles."""
        self._source[name] = bundle if has_profiles else None
        if name not in self._stores:
            snapshot = (lambda: _snapshot(self._source[name])) if has_profiles else None
            settings = redis_settings(self._settings)
            self._stores[name] = RedisStore(self._uri, name, settings, snapshot)
        self._current = self._stores[name]

    @property
    def out(self) -> str:
        """Why Redis cannot be asked; empty while it can."""
        return self._current.out if self._current is not None else ""

    async def receive(self, judge: Judge, arrivals: Arrivals, holder: int) -> Reception:
        """See ``ProfileStore``."""
        store = self._stores[judge.description.name]
        start = asyncio.get_running_loop().time()
        reception = await store.receive(judge, arrivals, holder)
        if (reception.verdicts == NEW).any():
            self._under_way[holder] = store
        if self._on_time is not None and not reception.missing:
            self._on_time("profiles", asyncio.get_running_loop().time() - start)
        return reception

    async def settle(
        self, arrivals: Arrivals, answers: Sequence[StoredAnswer | None], holder: int
    ) -> bool:
        """See ``ProfileStore``."""
        return await self._under_way.pop(holder).settle(arrivals, answers, holder)

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``."""
        if self._current is None:
            raise Overloaded("profiles", "no bundle is served yet")
        return await self._current.label(labels)

    async def close(self) -> None:
        """Writes what waits for Redis, if it can be asked, and closes the connections."""
        for store in self._stores.values():
            await store.close()

    def figures(self) -> dict[str, Any]:
        """What waits for Redis (see ``RedisStore.figures``)."""
        return self._current.figures() if self._current is not None else {}


def redis_settings(settings: ProfileSettings) -> RedisSettings:
    """The bounds of a store on Redis."""
    return RedisSettings(
        window=settings.window,
        labels=settings.label_days * 86_400,
        ttl=settings.ttl_days * 86_400,
        deadline=settings.deadline_ms / 1000,
    )


async def seed(settings: ProfileSettings, bundle: Bundle) -> str:
    """Fills a Redis that was never filled from the settings' history, or the bundle; where its
    profiles are from.

    :raises SentinelError: Redis cannot be reached, or the profiles cannot be used.
    """
    name = bundle.manifest.description.name
    store = RedisStore(settings.redis_uri(), name, redis_settings(settings))
    try:
        await store.check()
        if await store.loaded() is not None:
            return "redis"
        if settings.history is not None:
            history = await asyncio.to_thread(history_of, bundle, settings.history)
            assert history is not None
            data: bytes | None = history.packed()
        else:
            data = bundle.profiles
        if data is None:
            return COLD
        logger.warning("filling Redis with profiles")
        entities = await store.load(data)
        logger.warning("Redis was filled with the profiles of %d entities", entities)
        return "redis"
    finally:
        await store.close()


def _snapshot(uri: str | None) -> bytes:
    """The profiles of a bundle, read again: they are too large to be kept for the rare case. None
    at all where there is no bundle any more, or it has none: cold profiles are better than none
    for ever."""
    found = None
    if uri is not None:
        try:
            found = open_bundle(uri).profiles
        except BundleError as error:
            logger.error("Redis lost its profiles, and they cannot be had again: %s", error)
    return snapshot(MemoryStore()) if found is None else found
