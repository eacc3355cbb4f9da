"""A Redis that is killed, paused or emptied holds nobody up, and every event counts once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from sentinel.errors import Overloaded
from sentinel.identity import ANSWERED, NEW
from sentinel.profile_snapshot import snapshot
from sentinel.profile_store import Label, MemoryStore, without_profiles
from sentinel.redis_settings import RedisSettings
from sentinel.redis_store import RedisStore, digest_of
from tests.redis.cases import (
    HOUR,
    JUDGE,
    NAME,
    PLAN,
    Payment,
    answer,
    arriving,
    holder,
    pay,
    pay_in_memory,
    store_at,
    told,
    until,
)
from tests.redis.server import RedisServer

STRICT = RedisSettings(deadline=0.25)
SLOW = 0.25 + 0.05 + 0.35
"""Seconds no call may take: the deadline, its grace, and what a busy machine adds."""


AMOUNTS = [10.0] * 8 + [500.0]


class Load:
    """Payments one after the other, as a router makes them, and how long each took."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.memory = MemoryStore()
        self.sent: list[Payment] = []
        self.missing: list[str] = []
        self.slowest = 0.0

    async def send(self, batches: int) -> None:
        """Batches of five; customers come again, with amounts that some find unusual."""
        for _ in range(batches):
            at = len(self.sent)
            rows = [
                Payment(
                    f"t{n}", n * HOUR // 10, f"c{n % 4}", f"s{n % 3}", 500.0 if n % 9 == 8 else 10.0
                )
                for n in range(at, at + 5)
            ]
            self.sent += rows
            start = time.monotonic()
            reception = await pay(self.store, *rows)
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.missing.append(reception.missing)
            pay_in_memory(self.memory, *rows)
            await asyncio.sleep(0)

    async def send_until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.send(1)
                await asyncio.sleep(0.02)

    async def check_records(self) -> None:
        """Redis says what an undisturbed run would."""
        await until(lambda: not self.store.out and self.store.figures()["backlog"] == 0)
        for entity, log in self.memory.profiles.logs.items():
            for key, records in log.items():
                assert told(await self.store.show(entity, key)) == told(records), (entity, key)


@asynccontextmanager
async def loaded(server: RedisServer, **more: Any) -> AsyncIterator[Load]:
    async with store_at(server.uri, STRICT, **more) as store:
        load = Load(store)
        await load.send(4)
        # The first batches may have waited for the compiler; that is no outage.
        await until(lambda: not store.out)
        await load.send(20)
        load.slowest = 0.0
        load.missing.clear()
        yield load


def test_killed_and_started_again_it_ends_as_if_nothing_had_been(durable: RedisServer) -> None:
    async def story() -> None:
        async with loaded(durable) as load:
            durable.kill()
            await load.send(10)
            assert all(load.missing)
            assert load.store.out
            assert load.store.figures()["backlog"] >= 50
            durable.start()
            await load.send_until(lambda: not load.store.out)
            await load.send(10)
            assert load.missing[-1] == ""
            assert load.slowest < SLOW
            await load.check_records()
            assert load.store.figures()["dropped"] == 0

    asyncio.run(story())


def test_killed_in_the_middle_of_a_batch_it_has_what_it_confirmed(durable: RedisServer) -> None:
    async def story() -> None:
        async with loaded(durable) as load:
            sending = asyncio.create_task(load.send(200))
            await asyncio.sleep(0.1)
            durable.kill()
            await asyncio.to_thread(durable.start)
            await sending
            await load.check_records()

    asyncio.run(story())


def test_paused_it_is_left_out_at_once_after_the_first_deadline(durable: RedisServer) -> None:
    async def story() -> None:
        async with loaded(durable) as load:
            durable.pause()
            try:
                await load.send(1)
                assert load.slowest < SLOW
                assert "no answer within 0.25 s" in load.store.out
                start = time.monotonic()
                await load.send(20)
                assert time.monotonic() - start < 0.5, "nobody waits again"
                with pytest.raises(Overloaded, match="not written yet"):
                    await load.store.label([Label("t121", True, 1)])
                with pytest.raises(Overloaded, match="cannot be asked now"):
                    await load.store.label([Label("t1", True, 1)])
            finally:
                durable.resume()
            await load.send_until(lambda: not load.store.out)
            await load.check_records()
            assert load.missing[-1] == "" or load.store.out == ""

    asyncio.run(story())


def test_what_was_flagged_counts_once_however_often_and_wherever_it_is_sent_again(
    durable: RedisServer,
) -> None:
    async def story() -> None:
        async with (
            store_at(durable.uri, STRICT) as one,
            store_at(durable.uri, STRICT) as two,
        ):
            await pay(one, Payment("before"))
            await until(lambda: not one.out)
            durable.pause()
            for _ in range(3):
                for store in (one, two):
                    reception = await pay(store, Payment("t", HOUR), Payment("t", HOUR))
                    assert reception.verdicts.tolist() == [NEW, NEW]
                    assert reception.missing
            durable.resume()
            for store in (one, two):
                await until(lambda: not store.out and not store.figures()["backlog"])  # noqa: B023
            assert len(await one.show("customer_id", "anna")) == 2
            assert (await pay(two, Payment("t", HOUR))).verdicts.tolist() == [NEW]
            assert (await pay(one, Payment("t", HOUR))).verdicts.tolist() == [ANSWERED]
            assert len(await one.show("customer_id", "anna")) == 2

    asyncio.run(story())


def test_what_is_said_without_it_is_what_is_said_of_entities_never_seen(
    durable: RedisServer,
) -> None:
    async def story() -> None:
        async with store_at(durable.uri, STRICT) as store:
            await pay(store, Payment("t"))
            durable.kill()
            rows = [Payment("u", HOUR), Payment("v", 2 * HOUR)]
            there = await pay(store, *rows)
            assert PLAN is not None
            here = without_profiles(PLAN, arriving(rows), "")
            np.testing.assert_array_equal(there.behaviour, here.behaviour)
            assert (await pay(store, *rows)).missing

    asyncio.run(story())


def test_of_a_long_outage_the_oldest_events_are_dropped_and_counted(durable: RedisServer) -> None:
    async def story() -> None:
        few = RedisSettings(unwritten=40)
        async with store_at(durable.uri, few) as store:
            await pay(store, Payment("before"))
            await until(lambda: not store.out and not store.figures()["backlog"])
            durable.pause()
            for at in range(30):
                await pay(store, Payment(f"t{at}", (at + 1) * HOUR))
            figures = store.figures()
            assert (figures["unwritten"], figures["dropped"]) == (40, 20)
            durable.resume()
            await until(lambda: not store.out and not store.figures()["backlog"])
            assert len(await store.show("customer_id", "anna")) == 21

    asyncio.run(story())


def test_emptied_it_is_noticed_flagged_and_filled_again_from_the_snapshot(
    server: RedisServer,
) -> None:
    known = MemoryStore()
    pay_in_memory(known, *(Payment(f"old{at}", -at * HOUR, "c0") for at in range(20)))
    packed = snapshot(known)

    async def story() -> None:
        async with loaded(server, snapshot=lambda: packed) as load:
            await load.store.load(packed)
            await load.send(2)
            assert not any(load.missing)
            with server.client() as client:
                client.flushall()
            await load.send(1)
            assert load.missing[-1] == "it has lost what it held"
            await load.send_until(lambda: not load.store.out)
            await load.send(1)
            assert load.missing[-1] == ""
            await until(lambda: load.store.figures()["backlog"] == 0)
            assert await load.store.loaded() == digest_of(packed)
            assert load.store.figures()["emptied"] == 1
            records = await load.store.show("customer_id", "c0")
            since = [row for row in load.sent[load.missing.index("") :] if row.customer == "c0"]
            assert len(records) >= 20 + 1
            assert since
            times = records["time"].tolist()
            assert len(times) == len(set(times)), "nothing counts twice"

    asyncio.run(story())


@asynccontextmanager
async def unchecked(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.uri, NAME, STRICT)
    yield store
    await store.close()


def test_two_routers_notice_that_it_was_emptied_and_go_on(server: RedisServer) -> None:
    async def story() -> None:
        # The other was not asked to check; it has met this Redis by its first batch.
        async with loaded(server) as one, unchecked(server) as two:
            await pay(two, Payment("s", HOUR, "dora"))
            await until(lambda: not two.out)
            with server.client() as client:
                client.flushall()
            await one.send(1)
            await one.send_until(lambda: not one.store.out)
            reception = await pay(two, Payment("t", 9 * HOUR, "dora"))
            assert reception.missing == "it has lost what it held"
            await until(lambda: not two.out and not two.figures()["backlog"])
            assert len(await one.store.show("customer_id", "dora")) == 1
            assert not (await pay(two, Payment("u", 9 * HOUR, "dora"))).missing

    asyncio.run(story())


def test_a_redis_that_takes_no_writes_is_out_until_it_does(server: RedisServer) -> None:
    async def story() -> None:
        async with loaded(server) as load:
            with server.client() as client:
                client.config_set("maxmemory", "1")
            await load.send(3)
            assert "OutOfMemory" in load.store.out
            assert all(load.missing)
            await asyncio.sleep(0.3)
            assert load.store.out, "it answers, but it cannot be used"
            with server.client() as client:
                client.config_set("maxmemory", "0")
            await load.send_until(lambda: not load.store.out)
            await load.check_records()

    asyncio.run(story())


def test_a_redis_that_forgot_the_scripts_learns_them_again(server: RedisServer) -> None:
    async def story() -> None:
        async with loaded(server) as load:
            with server.client() as client:
                client.script_flush()
            await load.send(3)
            assert not any(load.missing)

    asyncio.run(story())


def test_a_connection_that_was_closed_while_it_lay_idle_is_made_again(server: RedisServer) -> None:
    async def story() -> None:
        async with loaded(server) as load:
            with server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.05)
            await load.send(3)
            assert not any(load.missing)

    asyncio.run(story())


def test_a_batch_whose_client_went_away_while_it_was_settled_is_written_all_the_same(
    durable: RedisServer,
) -> None:
    async def story() -> None:
        async with store_at(durable.uri) as store:
            await pay(store, Payment("t"))
            batch, mine = arriving([Payment("u", HOUR)]), holder()
            await store.receive(JUDGE, batch, mine)
            durable.pause()
            settling = asyncio.create_task(store.settle(batch, [answer()], mine))
            await asyncio.sleep(0.05)
            settling.cancel()
            durable.resume()
            await asyncio.wait([settling])
            assert settling.cancelled()
            await until(lambda: store.figures()["unwritten"] == 0)
            assert len(await store.show("customer_id", "anna")) == 2

    asyncio.run(story())
