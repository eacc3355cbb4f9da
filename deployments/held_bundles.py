"""The bundles one replica holds, and how it comes to another one without stopping.

A bundle's URI travels as ``user_config``, so that a new model is a reload in the same process.
Serve reloads the deployments of an application one by one, and a router may still ask for the old
bundle when a lane has the new one. So a replica holds two: the one it was told to serve, and of the
others the one that was asked for last.

While Serve waits for ``reconfigure`` it sends a replica no calls, and a deployment of one replica
has no other. So only the first bundle is waited for; a later one is loaded behind its back.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import ValidationError

from deployments.bundle_ref import BundleRef
from sentinel.bundle import Bundle, open_bundle
from sentinel.errors import BundleError, SentinelError, UnknownBundle

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

Loaded = TypeVar("Loaded")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a refused bundle is tried again: first, and at most."""

HELD = 2
"""Bundles a replica keeps in memory."""


class Refusal(msgspec.Struct, frozen=True):
    """A bundle that a replica was told to serve and could not; it serves another one instead."""

    bundle: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held(Generic[Loaded]):
    """What a replica made of one bundle."""

    uri: str
    digest: str
    content: Loaded


class HeldBundles(Generic[Loaded]):
    """Up to ``HELD`` bundles of a replica, by digest."""

    def __init__(self, load: Callable[[Bundle], Loaded]) -> None:
        """``load`` makes of an opened bundle what this replica needs, or raises ``BundleError``."""
        self._load = load
        self._held: dict[str, Held[Loaded]] = {}
        self._asked: dict[str, int] = {}
        self._turn = itertools.count()
        self._one_by_one = asyncio.Lock()
        self._wanted: Mapping[str, Any] | None = None
        self._changes: set[asyncio.Task[None]] = set()
        self._current: Held[Loaded] | None = None
        self.refused: Refusal | None = None
        """The last change that was refused; ``None`` again once one succeeds."""

    @property
    def current(self) -> Held[Loaded] | None:
        """What it was last told to serve, and could."""
        return self._current

    @property
    def digests(self) -> list[str]:
        """Of all it holds, the current one first."""
        first = self._current.digest if self._current else None
        return sorted(self._held, key=lambda digest: digest != first)

    def get(self, digest: str, who: str) -> Loaded:
        """What was made of the bundle of this digest.

        :raises UnknownBundle: it is not held; ``who`` is named in the message.
        """
        held = self._held.get(digest)
        if held is None:
            raise UnknownBundle(who, digest, " or ".join(self.digests) or "none")
        self._asked[digest] = next(self._turn)
        return held.content

    async def follow(
        self, user_config: Mapping[str, Any], then: Callable[[Held[Loaded]], object]
    ) -> None:
        """Takes up a bundle as ``change`` does, and calls ``then`` with what is current after it.

        Waits for the first bundle alone. A later one that is refused is tried again, more and more
        seldom, until it loads or another is wanted: a store may have been away for a moment, and
        Serve tells a replica of a change once.

        :raises BundleError: the first one cannot be loaded.
        """
        self._wanted = user_config
        if self._current is None:
            then(await self.change(user_config))
            return

        async def keep_trying() -> None:
            pause = FIRST_PAUSE
            while self._wanted is user_config:
                then(await self.change(user_config))
                if self.refused is None:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

        task = asyncio.create_task(keep_trying())
        self._changes.add(task)  # the event loop alone would not keep it
        task.add_done_callback(self._changes.discard)

    async def change(self, user_config: Mapping[str, Any]) -> Held[Loaded]:
        """Takes up the bundle that ``user_config`` names, and returns what is current after it.

        Work goes on meanwhile: loading happens in a thread.

        :raises BundleError: it cannot be loaded and this replica holds no other. Once it does, a
            bundle that cannot be loaded is noted as ``refused`` instead: Serve would stop a replica
            that raises here, and with it the bundle that is good.
        """
        async with self._one_by_one:
            try:
                held = await self._open(user_config)
            except Exception as error:
                if self._current is None:
                    raise
                self._refuse(user_config, error)
                return self._current
            self.refused = None
            self._keep(held)
            return held

    async def _open(self, user_config: Mapping[str, Any]) -> Held[Loaded]:
        try:
            ref = BundleRef.model_validate(user_config)
        except ValidationError as error:
            # A misspelt key is also a missing one: name what was written, not what is not there.
            first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
            place = ".".join(["user_config", *map(str, first["loc"])])
            raise BundleError(f"{place}: {first['msg']}, got {first['input']!r:.80}") from error
        if ref.digest in self._held:
            return self._held[ref.digest]
        return await asyncio.to_thread(self._load_from, ref)

    def _load_from(self, ref: BundleRef) -> Held[Loaded]:
        bundle = open_bundle(ref.bundle)
        if ref.digest not in (None, bundle.digest):
            raise BundleError(f"{ref.bundle} holds bundle {bundle.digest}, expected {ref.digest}")
        already = self._held.get(bundle.digest)
        return already or Held(ref.bundle, bundle.digest, self._load(bundle))

    def _keep(self, held: Held[Loaded]) -> None:
        self._held[held.digest] = held
        self._current = held
        others = [digest for digest in self._held if digest != held.digest]
        others.sort(key=lambda digest: self._asked.get(digest, -1), reverse=True)
        for digest in others[HELD - 1 :]:
            del self._held[digest]
            self._asked.pop(digest, None)

    def _refuse(self, user_config: Mapping[str, Any], error: Exception) -> None:
        uri = str(user_config.get("bundle")) if isinstance(user_config, Mapping) else ""
        reason = " ".join(str(error).split()) or type(error).__name__
        refused = Refusal(uri, reason)
        if refused == self.refused:
            return
        self.refused = refused
        trace = None if isinstance(error, SentinelError) else error
        logger.error("bundle refused, the old one goes on: %s", reason, exc_info=trace)
