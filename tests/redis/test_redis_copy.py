"""Snapshots go into Redis and come out again, whatever it holds meanwhile."""

import asyncio

import numpy as np
import pytest

from sentinel.errors import BundleError
from sentinel.profile_snapshot import restore, snapshot
from sentinel.profile_store import APPLIED, Label, MemoryStore
from sentinel.redis_store import digest_of
from tests.redis.cases import (
    HOUR,
    Payment,
    pay,
    pay_in_memory,
    settings_with,
    store_at,
)
from tests.redis.server import RedisServer

ROWS = [
    Payment(f"t{n}", n * HOUR // 20, f"c{n % 9}", f"s{n % 4}", float(n % 13)) for n in range(300)
]


def known(rows: list[Payment]) -> MemoryStore:
    """A store in memory that knows these, some of them as frauds."""
    store = MemoryStore()
    for at in range(0, len(rows), 50):
        pay_in_memory(store, *rows[at : at + 50])
    store.label([Label(row.id, True, 1) for row in rows[::17]])
    return store


def test_what_was_loaded_comes_out_the_same(server: RedisServer) -> None:
    packed = snapshot(known(ROWS))

    async def story() -> None:
        async with store_at(server.uri, settings_with(chunk=7)) as store:
            assert await store.loaded() is None
            assert await store.load(packed) == 13
            assert await store.loaded() == digest_of(packed)
            dumped = await store.dump()
            assert dumped == await store.dump()
            back, first = MemoryStore(), MemoryStore()
            assert restore(dumped, back) == restore(packed, first)
            for entity, log in first.profiles.logs.items():
                for key, records in log.items():
                    held = back.profiles.log(entity).records(key)
                    np.testing.assert_array_equal(held, records)
            assert len(back.seen) == len(first.seen)
            assert await store.label([Label("t0", False, 9), Label("t1", True, 9)]) == [APPLIED] * 2
            assert await store.load(packed) == 13
            labelled = await store.show("customer_id", "c1")
            assert labelled["frauds"][0] == 1

    asyncio.run(story())


def test_a_snapshot_adds_what_redis_does_not_know_and_no_event_counts_twice(
    server: RedisServer,
) -> None:
    packed = snapshot(known(ROWS[:200]))  # in other words: with other event ids

    async def story() -> None:
        memory = known(ROWS[:200])
        async with store_at(server.uri) as store:
            await pay(store, *ROWS[100:200])  # live, before the snapshot came
            await store.load(packed)
            assert await store.load(packed) == 13
            there = await pay(store, *ROWS[200:])
            here = pay_in_memory(memory, *ROWS[200:])
            counts = there.behaviour[:, :3]
            np.testing.assert_array_equal(counts, here.behaviour[:, :3])
            for entity, log in memory.profiles.logs.items():
                for key, records in log.items():
                    held = await store.show(entity, key)
                    assert held["time"].tolist() == records["time"].tolist()
            assert await store.label([Label("t150", True, 5)]) == [APPLIED]
            assert (await store.show("customer_id", "c6"))["frauds"].sum() == 2

    asyncio.run(story())


def test_loading_while_it_is_used_loses_no_event(server: RedisServer) -> None:
    old = [Payment(f"old{n}", -n * HOUR, f"c{n % 9}", f"s{n % 4}") for n in range(300)]
    packed = snapshot(known(old))

    async def story() -> None:
        async with (
            store_at(server.uri) as live,
            store_at(server.uri, settings_with(chunk=2)) as copying,
        ):
            loading = asyncio.create_task(copying.load(packed))
            for at in range(0, len(ROWS), 10):
                await pay(live, *ROWS[at : at + 10])
            await loading
            held = [await live.show("terminal_id", f"s{n}") for n in range(4)]
            assert sum(len(each) for each in held) == len(old) + len(ROWS)

    asyncio.run(story())


def test_bytes_that_are_no_snapshot_are_refused_and_change_nothing(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            with pytest.raises(BundleError, match="no snapshot"):
                await store.load(b"something else")
            assert await store.loaded() is None

    asyncio.run(story())
