"""Profiles on Redis say what profiles in memory say."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.profile_store import Arrivals, Label, MemoryStore
from sentinel.profiles import MOST
from sentinel.redis_store import RedisStore
from sentinel.scoring import StoredAnswer
from tests.redis.cases import (
    DAY,
    HOUR,
    JUDGE,
    PLAN,
    Payment,
    answer,
    arriving,
    holder,
    pay,
    pay_in_memory,
    store_at,
    told,
)
from tests.redis.server import RedisServer

payments = st.builds(
    Payment,
    id=st.sampled_from("abcdefghijkl"),
    at=st.sampled_from([0, 1, HOUR, DAY, 8 * DAY, 9 * DAY, 20 * DAY]),
    customer=st.sampled_from(["anna", "ben", "{}", "é:c"]),
    terminal=st.sampled_from(["kiosk", "petrol"]),
    amount=st.sampled_from([1.0, 10.0, 100.0]),
)
steps = st.one_of(
    st.tuples(st.just("receive"), st.lists(payments, min_size=1, max_size=4)),
    st.tuples(st.just("settle"), st.booleans()),
    st.tuples(st.just("label"), st.tuples(st.sampled_from("abcdefghz"), st.booleans())),
    st.tuples(st.just("late label"), st.tuples(st.sampled_from("abcdefgh"), st.booleans())),
)


@dataclass
class Both:
    """The same things done to both stores."""

    redis: RedisStore
    memory: MemoryStore = field(default_factory=MemoryStore)
    flying: list[tuple[Arrivals, int]] = field(default_factory=list)
    labels: int = 0

    async def receive(self, rows: list[Payment]) -> None:
        batch, mine = arriving(rows), holder()
        assert PLAN is not None
        there = await self.redis.receive(JUDGE, batch, mine)
        here = self.memory.receive(PLAN, batch, mine)
        assert there.missing == ""
        assert there.verdicts.tolist() == here.verdicts.tolist()
        assert there.answers == here.answers
        assert (there.late, there.too_late) == (here.late, here.too_late)
        np.testing.assert_array_equal(there.behaviour, here.behaviour)
        new = np.flatnonzero(here.verdicts == 0)
        if len(new):
            self.flying.append((batch.take(new), mine))
        if len(self.flying) > 2:
            await self.settle(True)

    async def settle(self, whole: bool) -> None:
        """``whole``: the oldest, with answers; else the newest, degraded."""
        if not self.flying:
            return
        batch, mine = self.flying.pop(0 if whole else -1)
        kept: list[StoredAnswer | None] = [answer(0.5) if whole else None] * len(batch)
        assert await self.redis.settle(batch, kept, mine)
        self.memory.settle(batch.identities, kept, mine)

    async def label(self, name: str, fraud: bool, back: int) -> None:
        while self.flying:
            await self.settle(True)
        self.labels += 1
        label = Label(name, fraud, 100 * (self.labels - back))
        assert await self.redis.label([label]) == self.memory.label([label])

    async def check_records(self) -> None:
        while self.flying:
            await self.settle(True)
        for entity, log in self.memory.profiles.logs.items():
            for key, records in log.items():
                assert told(await self.redis.show(entity, key)) == told(records)


@settings(max_examples=40)
@given(st.lists(steps, max_size=25))
def test_whatever_comes_in_whatever_order_both_stores_say_the_same(
    shared_server: RedisServer, steps: list[tuple[str, object]]
) -> None:
    with shared_server.client() as client:
        client.flushall()

    async def story() -> None:
        async with store_at(shared_server.uri) as store:
            both = Both(store)
            for kind, what in steps:
                match kind, what:
                    case "receive", list(rows):
                        await both.receive(rows)
                    case "settle", bool(whole):
                        await both.settle(whole)
                    case "label", (name, fraud):
                        await both.label(name, fraud, 0)
                    case "late label", (name, fraud):
                        await both.label(name, fraud, 3)
            await both.check_records()

    asyncio.run(story())


def test_an_entity_with_more_records_than_are_kept_is_merged_as_in_memory(
    server: RedisServer,
) -> None:
    rows = [Payment(f"t{at}", at * HOUR // 4, amount=1 + at % 7) for at in range(2 * MOST + 90)]

    async def story() -> None:
        memory = MemoryStore()
        async with store_at(server.uri) as store:
            for at in range(0, len(rows), 10):
                there = await pay(store, *rows[at : at + 10])
                here = pay_in_memory(memory, *rows[at : at + 10])
                np.testing.assert_array_equal(there.behaviour, here.behaviour)
            records = await store.show("terminal_id", "kiosk")
            assert told(records) == told(memory.profiles.log("terminal_id").records("kiosk"))
            assert records["count"].sum() == len(rows)

    asyncio.run(story())
    with server.client() as client:
        held = client.strlen("sentinel:transactions:1:e:terminal_id:kiosk") // 40
    assert held < MOST + 20, "what is read is written back shorter"


def test_two_routers_at_once_lose_nothing(server: RedisServer) -> None:
    rows = [
        Payment(f"t{at}", at * HOUR, f"c{at % 3}", f"s{at % 2}", float(at % 50))
        for at in range(1_200)
    ]

    async def router(start: int) -> None:
        async with store_at(server.uri) as store:
            mine = rows[start::2]
            for at in range(0, len(mine), 12):
                reception = await pay(store, *mine[at : at + 12])
                assert not reception.missing

    async def story() -> None:
        await asyncio.gather(router(0), router(1))
        async with store_at(server.uri) as store:
            for entity, keys in (("customer_id", "c0 c1 c2"), ("terminal_id", "s0 s1")):
                noted = [await store.show(entity, key) for key in keys.split()]
                assert sum(int(each["count"].sum()) for each in noted) == len(rows)
                assert sum(int(each["amount"].sum()) for each in noted) == sum(
                    int(each.amount * 10_000) for each in rows
                )

    asyncio.run(story())


def test_a_batch_sees_the_one_that_is_not_settled_yet(server: RedisServer) -> None:
    async def story() -> None:
        memory = MemoryStore()
        assert PLAN is not None
        async with store_at(server.uri) as store:
            for at in range(4):
                batch = arriving([Payment(f"t{at}", at * HOUR)])
                there = await store.receive(JUDGE, batch, holder())
                here = memory.receive(PLAN, batch, holder())
                np.testing.assert_array_equal(there.behaviour, here.behaviour)
            assert store.figures()["unwritten"] == 8

    asyncio.run(story())


@pytest.mark.parametrize("rows", [1, 300])
def test_a_batch_takes_two_trips(server: RedisServer, rows: int) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("first"))  # a new server learns the scripts
            before = store.trips
            await pay(store, *(Payment(f"t{at}", at, f"c{at}") for at in range(rows)))
            assert store.trips - before == 2

    asyncio.run(story())


def test_late_and_repeated_events_do_not_stay_a_burden(server: RedisServer) -> None:
    key = "sentinel:transactions:1:e:customer_id:anna"

    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, *(Payment(f"t{at}", at * HOUR) for at in range(30)))
            with server.client() as client:
                client.append(key, (client.get(key) or b"") * 9)
            await pay(store, Payment("next", 31 * HOUR))
            assert len(await store.show("customer_id", "anna")) == 31
            with server.client() as client:
                assert client.strlen(key) == 31 * 40
            month = 120 * DAY
            await pay(store, Payment("much later", month))
            await pay(store, Payment("then", month + 1))
            with server.client() as client:
                assert client.strlen(key) == 2 * 40, "what no window reaches is dropped"

    asyncio.run(story())
