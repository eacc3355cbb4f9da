"""Whether Redis can be asked. Nothing hangs on it, and it is back as soon as it can do its work.

Every question has a deadline. A Redis that did not answer by then, or with an error, is *out*: who
asks goes on without it at once instead of waiting as long again, and a probe, a write and a read of
what the last batch read, is put to it until that works. A Redis that has lost what it held, as told
by its *generation*, is out until it has been filled again.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sentinel.deadlines import within
from sentinel.redis_link import Command, Link, RedisLost
from sentinel.redis_settings import RedisSettings
from sentinel.redis_state import Keyspace

logger = logging.getLogger("sentinel.redis")

PROBE_PAUSE = 0.1
"""Seconds between the questions put to a Redis that is out."""

FILL_SECONDS = 120
"""How long one router keeps the others from filling Redis too."""

EMPTIED = "it has lost what it held"


class Reach:
    """One Redis as seen from here. ``out`` says why it cannot be asked, and is empty otherwise."""

    def __init__(
        self,
        link: Link,
        keys: Keyspace,
        settings: RedisSettings,
        refill: Callable[[], Awaitable[str]] | None,
        on_back: Callable[[], object],
    ) -> None:
        """``refill`` puts back what an emptied Redis should hold and says what that was, a digest;
        ``on_back`` is called when it can be asked again."""
        self._link = link
        self._keys = keys
        self._settings = settings
        self._refill = refill
        self._on_back = on_back
        self._probing: asyncio.Task[None] | None = None
        self._generation = b""
        self._last_read: Sequence[str] = ()
        self.out = ""
        self.emptied = 0
        """How often it had lost what it held."""
        self.seconds: dict[str, float] = {}
        """How long the last trip of each kind took."""

    async def ask(self, kind: str, commands: Sequence[Command], seconds: float) -> list[Any]:
        """The replies, within so many seconds. Where there are none it is put out.

        :raises RedisLost: it is out, or was put out now.
        """
        if self.out:
            raise RedisLost(self.out)
        start = time.perf_counter()
        try:
            replies = await in_time(self._link.run(commands), seconds)
        except RedisLost as error:
            self.put_out(str(error))
            raise
        self.seconds[kind] = time.perf_counter() - start
        return replies

    async def read(
        self, kind: str, commands: Sequence[Command], keys: Sequence[str], seconds: float
    ) -> tuple[list[Any], list[bytes]]:
        """The replies to the commands, and the values of the keys, in one trip (see ``ask``).

        :raises RedisLost: it has lost what it held, too.
        """
        self._last_read = keys[:64]
        reads = self._link.reads([*keys, self._keys.filled])
        replies = await self.ask(kind, [*commands, *reads], seconds)
        *values, filled = self._link.values(replies[len(commands) :])
        self._generation = self._generation or filled[:16]
        if filled[:16] != self._generation:
            self.put_out(EMPTIED)
            raise RedisLost(EMPTIED)
        return replies[: len(commands)], values

    async def meet(self) -> None:
        """Takes note of the generation, and begins one where there is none.

        :raises RedisLost: it cannot be reached.
        """
        await in_time(self._link.look_around(), self._settings.patience)
        fresh = secrets.token_hex(8)
        begin: Command = ("SET", self._keys.filled, f"{fresh}:", "NX")
        commands = [begin, ("GET", self._keys.filled)]
        _, filled = await in_time(self._link.run(commands), self._settings.patience)
        self._generation = filled[:16]

    async def loaded(self) -> str:
        """The digest of the snapshot that was loaded, or nothing.

        :raises RedisLost: it cannot be reached.
        """
        command: Command = ("GET", self._keys.filled)
        filled = (await in_time(self._link.run([command]), self._settings.patience))[0]
        return (filled or b"").partition(b":")[2].decode()

    async def mark_loaded(self, digest: str) -> None:
        """Notes that a snapshot of this digest was loaded.

        :raises RedisLost: it cannot be reached.
        """
        await self.meet()
        filled = f"{self._generation.decode()}:{digest}"
        await in_time(self._link.run([("SET", self._keys.filled, filled)]), self._settings.patience)

    def put_out(self, why: str) -> None:
        """Goes on without it, and begins to ask whether it is back."""
        if self.out:
            return
        self.out = why
        logger.warning("%s is out: %s", self._link.place, why)
        self._probing = asyncio.get_running_loop().create_task(self._until_back())

    async def close(self) -> None:
        """Stops asking."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        await self._link.close()

    async def _until_back(self) -> None:
        start = time.monotonic()
        while not await self._answers_again():
            await asyncio.sleep(PROBE_PAUSE)
        self.out = ""
        logger.warning("%s is back after %.1f s", self._link.place, time.monotonic() - start)
        self._on_back()

    async def _answers_again(self) -> bool:
        probe: Command = ("SET", self._keys.probe, b"1", "PX", 1000)
        reads = self._link.reads([*self._last_read, self._keys.filled])
        patience = self._settings.patience
        try:
            # Connecting may take longer than asking, and must not keep it out for ever.
            await in_time(self._link.look_around(), patience)
            await in_time(self._link.run([("GET", self._keys.filled)]), patience)
            replies = await in_time(self._link.run([probe, *reads]), self._settings.deadline)
            filled = self._link.values(replies[1:])[-1]
            if self._generation and filled[:16] != self._generation:
                await self._fill_again(filled)
        except RedisLost as error:
            logger.debug("%s is still out: %s", self._link.place, error)
            return False
        except Exception:  # a probe that ended would leave it out for ever
            logger.exception("%s cannot be asked", self._link.place)
            return False
        return True

    async def _fill_again(self, filled: bytes) -> None:
        """:raises RedisLost: another router is at it."""
        if self._refill is None or filled.partition(b":")[2]:
            await self.meet()
        else:
            await self._fill(self._refill)
        self.emptied += 1
        logger.warning("%s had lost what it held", self._link.place)

    async def _fill(self, refill: Callable[[], Awaitable[str]]) -> None:
        lock: Command = ("SET", self._keys.filling, b"1", "NX", "EX", FILL_SECONDS)
        if (await in_time(self._link.run([lock]), self._settings.patience))[0] is None:
            raise RedisLost("another router fills it")
        try:
            await self.mark_loaded(await refill())
        finally:
            with contextlib.suppress(RedisLost):
                unlock: Command = ("DEL", self._keys.filling)
                await in_time(self._link.run([unlock]), self._settings.deadline)


async def in_time(call: Awaitable[Any], seconds: float) -> Any:
    """What the call brings.

    :raises RedisLost: nothing within so many seconds.
    """
    try:
        return await within(seconds, call)
    except TimeoutError as error:
        raise RedisLost(str(error)) from error
