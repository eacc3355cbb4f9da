"""Who sent what before is known to every router, for as long as the window is open."""

import asyncio

import numpy as np

from sentinel.identity import ANSWERED, BUSY, CONFLICT, NEW
from sentinel.redis_store import RedisStore
from tests.redis.cases import (
    JUDGE,
    Payment,
    answer,
    arriving,
    holder,
    pay,
    settings_with,
    store_at,
)
from tests.redis.server import RedisServer


async def counted(store: RedisStore) -> int:
    return int((await store.show("customer_id", "anna"))["count"].sum())


def test_the_same_transaction_gets_its_first_answer_from_every_router(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as one, store_at(server.uri) as two:
            await pay(one, Payment("t"), kept=answer(0.125))
            again = await pay(two, Payment("t"))
            assert again.verdicts.tolist() == [ANSWERED]
            assert again.answers == {0: answer(0.125)}
            assert await counted(two) == 1

    asyncio.run(story())


def test_an_answer_of_nan_and_odd_text_comes_back_as_it_was(server: RedisServer) -> None:
    odd = (2, 1.0, 0.0, float("nan"), ("ä", ""), "v")

    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"), kept=odd)
            (back,) = (await pay(store, Payment("t"))).answers.values()
            assert repr(back) == repr(odd)

    asyncio.run(story())


def test_other_fields_under_the_same_id_are_a_conflict(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"))
            other = await pay(store, Payment("t", amount=11.0))
            assert other.verdicts.tolist() == [CONFLICT]
            assert await counted(store) == 1

    asyncio.run(story())


def test_the_same_id_of_another_caller_is_another_transaction(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"))
            other = await pay(store, Payment("t"), caller="another shop")
            assert other.verdicts.tolist() == [NEW]
            assert await counted(store) == 2

    asyncio.run(story())


def test_of_twins_in_a_batch_the_second_waits_and_of_a_conflict_nothing_counts(
    server: RedisServer,
) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            batch = [Payment("t"), Payment("t"), Payment("t", amount=3.0), Payment("u")]
            reception = await pay(store, *batch)
            assert reception.verdicts.tolist() == [NEW, BUSY, CONFLICT, NEW]
            assert await counted(store) == 2

    asyncio.run(story())


def test_a_call_made_again_gets_its_claims_again_and_counts_once(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            batch, mine = arriving([Payment("t"), Payment("t"), Payment("u", 1)]), holder()
            first = await store.receive(JUDGE, batch, mine)
            again = await store.receive(JUDGE, batch, mine)
            assert first.verdicts.tolist() == again.verdicts.tolist() == [NEW, BUSY, NEW]
            np.testing.assert_array_equal(first.behaviour, again.behaviour)
            new = batch.take(np.array([0, 2]))
            assert await store.settle(new, [answer(), answer()], mine)
            assert await counted(store) == 2
            assert store.figures()["unwritten"] == 0

    asyncio.run(story())


def test_what_another_router_is_scoring_waits_until_its_lease_ends(server: RedisServer) -> None:
    async def story() -> None:
        short = settings_with(lease=0.3)
        async with store_at(server.uri, short) as dead, store_at(server.uri, short) as alive:
            batch, dead_holder, mine = arriving([Payment("t")]), holder(), holder()
            await dead.receive(JUDGE, batch, dead_holder)
            busy = await alive.receive(JUDGE, batch, mine)
            assert busy.verdicts.tolist() == [BUSY]
            await asyncio.sleep(0.35)
            taken_over = await alive.receive(JUDGE, batch, mine)
            assert taken_over.verdicts.tolist() == [NEW]
            await dead.settle(batch, [answer(0.1)], dead_holder)  # it was only slow
            assert await alive.settle(batch, [answer(0.9)], mine)
            assert (await pay(dead, Payment("t"))).answers == {0: answer(0.9)}
            assert await counted(alive) == 1

    asyncio.run(story())


def test_a_degraded_answer_is_not_kept_but_the_event_counts_once(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            for _ in range(3):
                batch, mine = arriving([Payment("t")]), holder()
                reception = await store.receive(JUDGE, batch, mine)
                assert reception.verdicts.tolist() == [NEW]
                assert await store.settle(batch, [None], mine)
            assert await counted(store) == 1
            await pay(store, Payment("t"))
            assert (await pay(store, Payment("t"))).verdicts.tolist() == [ANSWERED]
            assert await counted(store) == 1

    asyncio.run(story())


def test_after_the_window_the_same_id_is_a_new_transaction(server: RedisServer) -> None:
    async def story() -> None:
        clock = iter(range(1_000_000)).__next__
        async with store_at(server.uri, settings_with(window=0.4), clock=clock) as store:
            await pay(store, Payment("t"))
            assert (await pay(store, Payment("t"))).verdicts.tolist() == [ANSWERED]
            await asyncio.sleep(0.45)
            later = await pay(store, Payment("t", amount=12.0))
            assert later.verdicts.tolist() == [NEW]
            assert await counted(store) == 2

    asyncio.run(story())


def test_everything_but_the_marker_has_an_end(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri, settings_with(ttl=1000, labels=500, window=100)) as store:
            await pay(store, Payment("t"))

    asyncio.run(story())
    with server.client() as client:
        ends = {key.decode().split(":")[3]: client.pttl(key) for key in client.scan_iter()}
    assert ends.pop("filled") == -1
    for kind, seconds in (("e", 1000), ("t", 500), ("c", 100)):
        assert 0.9 * seconds < ends[kind] / 1000 <= seconds
