"""Labels on Redis count once, the newest one, whatever happens to the records meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from sentinel.profile_store import APPLIED, REPEATED, SUPERSEDED, UNKNOWN, Label, MemoryStore
from sentinel.profiles import MOST
from sentinel.redis_labels import RedisLabels
from sentinel.redis_link import Command, link_to
from sentinel.redis_reach import Reach
from sentinel.redis_state import Keyspace, tidy
from sentinel.redis_store import RedisStore
from tests.redis.cases import HOUR, NAME, PATIENT, Payment, pay, pay_in_memory, store_at, told
from tests.redis.server import RedisServer

KEY = "sentinel:transactions:1:e:customer_id:anna"


async def frauds(store: RedisStore) -> list[int]:
    customer = await store.show("customer_id", "anna")
    terminal = await store.show("terminal_id", "kiosk")
    assert customer["frauds"].tolist() == terminal["frauds"].tolist()
    return [int(each) for each in customer["frauds"]]


def test_of_two_labels_the_later_one_counts_whichever_comes_first(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"), Payment("u", HOUR))
            said = [("t", True, 50), ("t", True, 50), ("t", False, 40), ("x", True, 1)]
            outcomes = await store.label([Label(*each) for each in said])
            assert outcomes == [APPLIED, REPEATED, SUPERSEDED, UNKNOWN]
            assert await store.label([]) == []
            assert await frauds(store) == [1, 0]
            assert await store.label([Label("t", False, 60)]) == [APPLIED]
            assert await frauds(store) == [0, 0]
            assert await store.label([Label("t", True, 60)]) == [APPLIED]
            assert await frauds(store) == [1, 0]

    asyncio.run(story())


def test_a_label_is_of_every_transaction_of_its_id(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"))
            await pay(store, Payment("t", HOUR), caller="another shop")
            assert await store.label([Label("t", True, 1)]) == [APPLIED]
            assert await frauds(store) == [1, 1]

    asyncio.run(story())


def test_a_label_of_merged_records_moves_the_sum_that_holds_its_event(server: RedisServer) -> None:
    rows = [Payment(f"t{at}", at * HOUR // 4) for at in range(MOST + 40)]
    labels = [Label("t0", True, 5), Label("t1", True, 5), Label("t1", False, 6),
              Label("t2", True, 9), Label("t2", False, 8), Label(f"t{MOST}", True, 1)]  # fmt: skip

    async def story() -> None:
        memory = MemoryStore()
        async with store_at(server.uri) as store:
            for at in range(0, len(rows), 8):
                await pay(store, *rows[at : at + 8])
                pay_in_memory(memory, *rows[at : at + 8])
            for _ in range(2):
                assert await store.label(labels) == memory.label(labels)
                for entity, key in (("customer_id", "anna"), ("terminal_id", "kiosk")):
                    records = await store.show(entity, key)
                    assert told(records) == told(memory.profiles.log(entity).records(key))
                assert records["frauds"].sum() == 3

    asyncio.run(story())


async def label_again_and_again(store: RedisStore, name: str, times: Sequence[int]) -> None:
    for when in times:
        await store.label([Label(name, when % 3 != 0, when)])
        await asyncio.sleep(0)


def test_labels_of_several_routers_end_as_the_newest_says(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as one, store_at(server.uri) as two:
            await pay(one, Payment("t"), Payment("u", HOUR))
            await asyncio.gather(
                label_again_and_again(one, "t", range(0, 61, 2)),
                label_again_and_again(two, "t", range(61, 0, -2)),
                label_again_and_again(one, "u", range(1, 61, 2)),
                label_again_and_again(two, "u", range(60, 0, -2)),
            )
            assert await frauds(one) == [1, 0]  # 61 % 3 is 1, 60 % 3 is 0

    asyncio.run(story())


def test_labels_survive_that_records_are_written_shorter_meanwhile(server: RedisServer) -> None:
    rows = [Payment(f"t{at}", at * HOUR // 4) for at in range(MOST)]

    async def growing(store: RedisStore) -> None:
        for at in range(240):
            await pay(store, Payment(f"more{at}", (MOST + at) * HOUR // 4))
            with server.client() as client:  # what makes every other reading a shortening
                client.append(KEY, (client.get(KEY) or b"")[-40 * 200 :])

    async def story() -> None:
        async with store_at(server.uri) as one, store_at(server.uri) as two:
            await pay(one, *rows)
            before = await one.show("customer_id", "anna")
            labelled = [Label(f"t{at}", True, 1) for at in range(0, MOST, 4)]
            task = asyncio.create_task(growing(one))
            for label in labelled:
                assert await two.label([label]) == [APPLIED]
            await task
            after = await one.show("customer_id", "anna")
            assert before["frauds"].sum() == 0
            assert after["frauds"].sum() == len(labelled)

    asyncio.run(story())


def test_a_label_that_comes_before_its_event_is_written_waits_for_it(server: RedisServer) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"), Payment("u", HOUR))
            with server.client() as client:
                held = client.get(KEY) or b""
                client.set(KEY, held[40:])  # the node of this key got its part of the batch late
                assert await store.label([Label("t", True, 1)]) == [APPLIED]
                await pay(store, *(Payment(f"more{at}", at * HOUR) for at in range(2, 30)))
                client.append(KEY, (client.get(KEY) or b"")[40:] * 9)
                await pay(store, Payment("last", 30 * HOUR))
                assert client.strlen(KEY) == (30 + 1) * 40, "it was written shorter meanwhile"
                client.append(KEY, held[:40])
            assert (await frauds(store))[0] == 1

    asyncio.run(story())


def test_a_label_that_was_noted_and_counts_nowhere_is_mended_by_sending_it_again(
    server: RedisServer,
) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"))
            with server.client() as client:
                held = client.get(KEY) or b""
                await store.label([Label("t", True, 1)])
                client.set(KEY, held)  # whoever applied it died before it was appended
                assert await store.label([Label("t", True, 1)]) == [REPEATED]
            assert await frauds(store) == [1]

    asyncio.run(story())


class Interrupted(Reach):
    """Does something else before its question of that number."""

    def __init__(self, server: RedisServer, number: int, other: Callable[[], Awaitable[object]]):
        super().__init__(link_to(server.uri), Keyspace(NAME), PATIENT, None, lambda: None)
        self.left = number
        self.other = other

    async def ask(self, kind: str, commands: Sequence[Command], seconds: float) -> list[Any]:
        self.left -= 1
        if self.left == 0:
            await self.other()
        return await super().ask(kind, commands, seconds)


LOOK_UP, NOTE, APPEND = 1, 2, 3


@pytest.mark.parametrize("step", [LOOK_UP, NOTE, APPEND])
def test_whatever_comes_between_the_steps_of_a_label_the_later_one_stays(
    server: RedisServer, step: int
) -> None:
    async def story() -> None:
        async with store_at(server.uri) as store:
            await pay(store, Payment("t"))

            async def another() -> None:
                assert await store.label([Label("t", False, 9)]) == [APPLIED]
                with server.client() as client:  # and the records are written shorter
                    client.set(KEY, tidy([client.get(KEY) or b""]).packed())

            reach = Interrupted(server, step, another)
            labels = RedisLabels(reach, Keyspace(NAME), PATIENT)
            (outcome,) = await labels.apply([Label("t", True, 5)])
            assert outcome == (APPLIED if step == APPEND else SUPERSEDED)
            assert await store.label([Label("t", True, 8)]) == [SUPERSEDED]
            assert (await store.show("customer_id", "anna"))["frauds"].tolist() == [0]
            await reach.close()

    asyncio.run(story())
