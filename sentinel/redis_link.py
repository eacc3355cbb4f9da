"""The way to Redis: commands out in one write, replies back, from one server or from a cluster.

redis-py makes the connections (TLS, users, the cluster's slots). Its own pipeline costs some 10
microseconds a command, three times what it takes to pack it, send it and read the reply.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.maint_notifications import MaintNotificationsConfig

from sentinel.errors import SentinelError, UsageError
from sentinel.redis_scripts import SOURCES

Command = tuple[Any, ...]
"""A command and its arguments: strings, bytes and numbers."""

SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")

REDIRECTS = 5
"""Times a command follows a slot of the cluster that has moved."""

REDIRECT_PAUSE = 0.02
"""Seconds before the cluster is asked again while a slot is on its way, or its master has died."""

_OURS: dict[str, Any] = {
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "protocol": 2,
    "decode_responses": False,
    "socket_timeout": None,  # whoever asks has a deadline, and a timer a reply would cost more
    "health_check_interval": 0,
    "socket_read_size": 2**20,  # a batch reads half of that: its replies in one go
}


class RedisLost(SentinelError):
    """Redis cannot be asked now; says why."""


class Link:
    """One Redis server."""

    def __init__(self, uri: str) -> None:
        """:raises UsageError: this is no address of a Redis server."""
        self.place = without_password(uri)
        self.trips = 0
        """How often something was sent and waited for."""
        self._pool: ConnectionPool = _made(
            self.place,
            lambda: ConnectionPool.from_url(uri, retry=Retry(NoBackoff(), 0)),
        )
        self._pool.connection_kwargs.update(_OURS)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command, in one trip.

        :raises RedisLost: there was none, or one was an error.
        """
        try:
            replies = await self._trip_or_again(commands)
            unknown = [at for at, each in enumerate(replies) if isinstance(each, NoScriptError)]
            if unknown:  # a Redis that has just started knows no script
                sent = await self._trip([_with_text(commands[at]) for at in unknown])
                for at, reply in zip(unknown, sent, strict=True):
                    replies[at] = reply
        except (RedisError, OSError) as error:
            raise RedisLost(_reason(error)) from error
        except TypeError as error:  # what redis-py does with an option that it does not know
            if option := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
                raise UsageError(f"{self.place}: {option[1]!r} is no option of redis-py") from None
            raise
        for reply in replies:
            if isinstance(
                reply, ReadOnlyError
            ):  # no master any more: its name leads to another now
                await self.close()
            if isinstance(reply, Exception):
                raise RedisLost(_reason(reply)) from reply
        return replies

    def reads(self, keys: Sequence[str]) -> list[Command]:
        """The commands that read these keys; ``values`` takes their replies."""
        return [("MGET", *keys)] if keys else []

    def values(self, replies: Sequence[Any]) -> list[bytes]:
        """The values of the keys that ``reads`` asked for; empty where there is none."""
        return [value or b"" for value in replies[0]] if replies else []

    async def scan(self, pattern: str, cursor: int) -> tuple[int, list[bytes]]:
        """Some of the keys that match, and the cursor to go on from, 0 at the end."""
        found = (await self.run([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)]))[0]
        return int(found[0]), found[1]

    async def look_around(self) -> None:
        """Learns anew which server holds what; for who got no answer where the keys had been.

        :raises RedisLost: nobody could say.
        """
        try:
            await self._learn()
        except (RedisError, OSError) as error:
            raise RedisLost(_reason(error)) from error

    async def close(self) -> None:
        """Closes the connections; who asks again opens new ones."""
        await self._pool.disconnect()

    async def _trip_or_again(self, commands: Sequence[Command]) -> list[Any]:
        """All that is asked here may be asked twice. So a connection that was cut, by a server that
        lost its role perhaps, costs nobody an answer."""
        try:
            return await self._trip(commands)
        except (AuthenticationError, BusyLoadingError):
            raise
        except Disconnected:
            await self._learn()
            return await self._trip(commands)

    async def _learn(self) -> None:
        """Finds out which server holds what."""

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        self.trips += 1
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            return await _exchange(cast(Connection, connection), commands)
        finally:
            await self._pool.release(connection)


class ClusterLink(Link):
    """A Redis Cluster: every node gets its share of a trip, all at once."""

    def __init__(self, uri: str) -> None:
        self.place = without_password(uri)
        self.trips = 0
        self._cluster: RedisCluster = _made(
            self.place, lambda: RedisCluster.from_url(uri.replace("+cluster", "", 1), **_OURS)
        )

    def reads(self, keys: Sequence[str]) -> list[Command]:
        return [("GET", key) for key in keys]

    def values(self, replies: Sequence[Any]) -> list[bytes]:
        return [value or b"" for value in replies]

    async def _learn(self) -> None:
        await self._cluster.initialize()
        await self._cluster.nodes_manager.initialize()

    async def scan(self, pattern: str, cursor: int) -> tuple[int, list[bytes]]:
        """Node after node; the cursor holds the node's number in its low 10 bits."""
        await self._cluster.initialize()
        nodes = sorted(self._cluster.get_primaries(), key=lambda node: node.name)
        at = cursor & 1023
        command = ("SCAN", cursor >> 10, "MATCH", pattern, "COUNT", 1000)
        try:
            found = (await self._ask(nodes[at], [command]))[0]
        except (RedisError, OSError) as error:
            raise RedisLost(_reason(error)) from error
        if int(found[0]):
            return int(found[0]) << 10 | at, found[1]
        return (at + 1 if at + 1 < len(nodes) else 0), found[1]

    async def close(self) -> None:
        await self._cluster.aclose()

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        self.trips += 1
        await self._cluster.initialize()
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for again in range(REDIRECTS + 1):
            await self._spread(commands, left, replies)
            left = [at for at in left if isinstance(replies[at], _ELSEWHERE)]
            if not left:
                break
            if again:
                await asyncio.sleep(REDIRECT_PAUSE)
            await self._redirect(commands, left, replies)
            left = [at for at in left if isinstance(replies[at], _ELSEWHERE)]
        return replies

    async def _spread(
        self, commands: Sequence[Command], rows: Sequence[int], replies: list[Any]
    ) -> None:
        """Sends each command to the node of its key."""
        shares: dict[str, tuple[ClusterNode, list[int]]] = {}
        for at in rows:
            node = self._cluster.get_node_from_key(key_of(commands[at]))
            if node is None:
                raise RedisLost("no node of the cluster holds a part of the keys")
            shares.setdefault(node.name, (node, []))[1].append(at)
        asked = [self._ask(node, [commands[at] for at in share]) for node, share in shares.values()]
        for (_, share), answers in zip(shares.values(), await _all_of(asked), strict=True):
            for at, answer in zip(share, answers, strict=True):
                replies[at] = answer

    async def _redirect(
        self, commands: Sequence[Command], rows: Sequence[int], replies: list[Any]
    ) -> None:
        """Learns where the slots are now; asks the new node of one that is on its way."""
        if any(isinstance(replies[at], MovedError | ClusterDownError) for at in rows):
            await self._cluster.nodes_manager.initialize()
        for at in rows:
            error = replies[at]
            if isinstance(error, AskError) and not isinstance(error, MovedError):
                node = self._cluster.get_node(host=error.host, port=error.port)
                if node is not None:
                    replies[at] = (await self._ask(node, [("ASKING",), commands[at]]))[1]

    async def _ask(self, node: ClusterNode, commands: Sequence[Command]) -> list[Any]:
        connection = node.acquire_connection()
        try:
            if connection.is_connected and await connection.can_read():
                await connection.disconnect()  # it was closed while it lay idle
            return await _exchange(connection, commands)
        finally:
            node.release(connection)


_ELSEWHERE = (AskError, ClusterDownError, TryAgainError)  # MovedError is an AskError


def link_to(uri: str) -> Link:
    """The way to the Redis at ``redis://`` or ``rediss://`` (TLS), or to the cluster at
    ``redis+cluster://`` or ``rediss+cluster://``; options after ``?`` are those of redis-py.

    :raises UsageError: this is no such address.
    """
    return ClusterLink(uri) if "+cluster" in uri.partition(":")[0] else Link(uri)


def without_password(uri: str) -> str:
    """An address as it may be shown: without user, password and options.

    :raises UsageError: this is no address of a Redis server.
    """
    scheme = uri.partition("://")[0]
    if "://" not in uri or scheme not in SCHEMES:
        raise UsageError(f"not the address of a Redis server; expected {_EXPECTED}")
    try:
        parts = urlsplit(uri)
        place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    except ValueError:  # its text may hold a part of the password
        raise UsageError(f"{scheme}://… cannot be read; expected {_EXPECTED}") from None
    return urlunsplit((scheme, place, parts.path, "", ""))


_EXPECTED = "redis[s][+cluster]://[[user]:password@]host[:port][/number], percent-encoded"


def key_of(command: Command) -> Any:
    """The key that decides which node a command goes to."""
    return command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]


def _made(place: str, make: Any) -> Any:
    try:
        return make()
    except (ValueError, TypeError, RedisError):  # may quote the password
        raise UsageError(f"{place}: an option after '?' cannot be used by redis-py") from None


def _with_text(command: Command) -> Command:
    return ("EVAL", SOURCES[command[1]], *command[2:])


async def _exchange(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    packed = b"".join(map(pack_command, commands))
    await connection.send_packed_command(packed, check_health=False)
    return [await _reply(connection) for _ in commands]


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # the ones behind it must be read too
        return error


async def _all_of(asked: Sequence[Any]) -> list[Any]:
    """All results; the first error once none is under way any more."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
