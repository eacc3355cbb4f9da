"""Snapshots into Redis and out of it, in trips of bounded size, while it is in use."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from sentinel.profile_snapshot import restore, snapshot
from sentinel.profile_store import MemoryStore
from sentinel.records import Records
from sentinel.redis_link import Command, Link
from sentinel.redis_reach import in_time
from sentinel.redis_scripts import REPLACE, SEE
from sentinel.redis_settings import RedisSettings
from sentinel.redis_state import Keyspace, pack_seen, tidy, unpack_seen
from sentinel.store_limits import StoreLimits

OnStep = Callable[[int, int], object]
"""Told how many keys are done, and of how many, 0 where that is not known."""

_EVERYTHING = StoreLimits(identities=1, labels=2**62)


def quiet(done: int, of: int) -> None:
    """Tells nobody how far a copy is."""


class RedisCopy:
    """Copies between Redis and snapshots."""

    def __init__(self, link: Link, keys: Keyspace, settings: RedisSettings) -> None:
        self._link = link
        self._keys = keys
        self._settings = settings

    async def load(self, data: bytes, on_step: OnStep = quiet) -> int:
        """Adds a snapshot to what Redis has; how many entities are in it.

        :raises BundleError: these bytes are no snapshot.
        :raises RedisLost: Redis cannot be reached.
        """
        store = MemoryStore(_EVERYTHING)
        await asyncio.to_thread(restore, data, store)  # seconds, for a large one
        entities, total, done = len(store.profiles), len(store.profiles) + len(store.seen), 0
        for entity, log in store.profiles.logs.items():
            items = iter(log.items())
            while some := list(islice(items, self._settings.chunk)):
                await self._add(self._keys.entities(entity, [key for key, _ in some]), some)
                done += len(some)
                on_step(done, total)
        transactions = store.seen.items()
        alive = int(1000 * self._settings.labels)
        while seen := list(islice(transactions, self._settings.chunk)):
            keys = self._keys.seen([name for name, _ in seen])
            packed = [pack_seen(each) for _, each in seen]
            await self._run(
                [
                    ("EVALSHA", SEE, 1, key, field, value, alive)
                    for key, (field, value) in zip(keys, packed, strict=True)
                ]
            )
            done += len(seen)
            on_step(min(done, total), total)
        return entities

    async def dump(self, on_step: OnStep = quiet) -> bytes:
        """A snapshot of all that Redis has; the same gives the same bytes."""
        store = MemoryStore(_EVERYTHING)
        done = 0
        async for keys in self._scan("e:"):
            read = tidy(await self._values(keys))
            begin = 0
            for key, size in zip(keys, read.sizes.tolist(), strict=True):
                entity, name = self._keys.entity_of(key)
                records = read.records[begin : begin + size]
                store.profiles.log(entity).load([name], np.array([size]), records)
                begin += size
            done += len(keys)
            on_step(done, 0)
        async for keys in self._scan("t:"):
            replies = await self._run([("HGETALL", key) for key in keys])
            for key, reply in zip(keys, replies, strict=True):
                for field, value in zip(reply[::2], reply[1::2], strict=True):
                    store.seen.put(self._keys.name_of(key), unpack_seen(field, value))
            done += len(keys)
            on_step(done, 0)
        return snapshot(_in_order(store))

    async def show(self, entity: str, key: str) -> Records:
        """The records of one entity in time order."""
        return tidy(await self._values(self._keys.entities(entity, [key]))).records

    async def _add(self, keys: Sequence[str], items: Sequence[tuple[str, Records]]) -> None:
        """Adds records to what Redis has of each key."""
        ttl = int(1000 * self._settings.ttl)
        commands: list[Command] = []
        held = await self._values(keys)
        for key, value, (_, records) in zip(keys, held, items, strict=True):
            more = _not_in(value, records).tobytes()
            if more:
                whole = tidy([value + more]).packed()
                digest = hashlib.sha1(value, usedforsecurity=False).hexdigest()
                commands.append(("EVALSHA", REPLACE, 1, key, digest, whole, more, ttl))
        if commands:
            await self._run(commands)

    async def _values(self, keys: Sequence[str]) -> list[bytes]:
        return self._link.values(await self._run(self._link.reads(keys)))

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = await in_time(self._link.run(commands), self._settings.patience)
        return replies

    async def _scan(self, kind: str) -> AsyncIterator[list[str]]:
        """All keys of this kind, some at a time, each once."""
        seen: set[str] = set()
        cursor = -1
        while cursor:
            scan = self._link.scan(f"{self._keys.prefix}{kind}*", max(cursor, 0))
            cursor, found = await in_time(scan, self._settings.patience)
            keys = list(dict.fromkeys(each.decode() for each in found))
            fresh = [key for key in keys if key not in seen]
            seen.update(fresh)
            for at in range(0, len(fresh), self._settings.chunk):
                yield fresh[at : at + self._settings.chunk]


def _not_in(value: bytes, records: Records) -> Records:
    """The records of a snapshot that are not in what Redis has of the entity.

    Training gives a transaction another event id than serving did, so an event of the same moment
    and transaction is the same. What either side has merged stands for all before it.
    """
    live = tidy([value]).records
    if not len(live):
        return records
    merged = live["time"][live["count"] > 1]
    fresh = records["time"] > (merged.max() if len(merged) else -(2**63))
    known = set(zip(live["time"].tolist(), (live["id"] >> 16).tolist(), strict=True))
    rows = zip(records["time"].tolist(), (records["id"] >> 16).tolist(), strict=True)
    fresh &= np.array([row not in known for row in rows], np.bool_)
    return records[fresh & ((records["count"] == 1) | (records["time"] < live["time"].min()))]


def _in_order(store: MemoryStore) -> MemoryStore:
    """The same with keys in order: Redis tells them in any."""
    ordered = MemoryStore(_EVERYTHING)
    for entity, log in sorted(store.profiles.logs.items()):
        items = sorted(log.items())
        if items:
            lengths = np.array([len(records) for _, records in items])
            records = np.concatenate([records for _, records in items])
            ordered.profiles.log(entity).load([key for key, _ in items], lengths, records)
    for name, seen in sorted(store.seen.items(), key=lambda each: (each[1].time, each[1].event)):
        ordered.seen.put(name, seen)
    return ordered
