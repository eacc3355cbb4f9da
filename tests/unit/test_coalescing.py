"""What meets in the queue flies together, in order, within bounds; what cannot wait is refused."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.coalescing import TURNS, Coalescer, QueueLimits
from sentinel.errors import Overloaded

LIMITS = QueueLimits(
    flight_rows=10, flight_items=4, flights=1, waiting_rows=50, waiting_items=20, age=0.5
)


class Airport:
    """Flights that land when told to; answers an item with itself, doubled."""

    def __init__(self, limits: QueueLimits = LIMITS) -> None:
        self.flights: list[list[Any]] = []
        self.now = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.most_at_once = self._at_once = 0
        self.queue: Coalescer[Any, Any] = Coalescer(self._fly, limits, lambda: self.now)

    async def _fly(self, items: Sequence[Any]) -> list[Any]:
        self.flights.append(list(items))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await self.gate.wait()
        self._at_once -= 1
        return [item if isinstance(item, Exception) else 2 * item for item in items]

    def submit(self, item: Any, rows: int = 1, key: object = None) -> "asyncio.Future[Any]":
        return self.queue.submit(key, item, rows)


async def turns(count: int = TURNS + 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_an_idle_coalescer_starts_at_once_with_what_came_in_the_same_turn() -> None:
    async def scene() -> None:
        airport = Airport()
        assert await asyncio.gather(*(airport.submit(item) for item in (1, 2, 3))) == [2, 4, 6]
        assert airport.flights == [[1, 2, 3]]
        assert airport.queue.idle

    asyncio.run(scene())


def test_what_is_on_its_way_when_a_flight_may_set_off_goes_with_it() -> None:
    """A request needs some turns of the loop from its bytes to the queue."""

    async def scene() -> None:
        airport = Airport()

        async def request(item: int) -> Any:
            await turns(item)
            return await airport.submit(item)

        found = await asyncio.gather(*(request(item) for item in (0, 3, TURNS - 1, TURNS + 2)))
        assert found == [0, 6, 2 * (TURNS - 1), 2 * (TURNS + 2)]
        assert airport.flights == [[0, 3, TURNS - 1], [TURNS + 2]]

    asyncio.run(scene())


def test_what_comes_during_a_flight_forms_the_next_one() -> None:
    async def scene() -> None:
        airport = Airport()
        airport.gate.clear()
        first = airport.submit(1)
        await turns()
        others = [airport.submit(item) for item in (2, 3)]
        await turns()
        assert airport.flights == [[1]]
        assert (airport.queue.waiting_rows, airport.queue.flying_rows) == (2, 1)
        airport.gate.set()
        assert await asyncio.gather(first, *others) == [2, 4, 6]
        assert airport.flights == [[1], [2, 3]]

    asyncio.run(scene())


def test_an_error_of_one_item_is_its_own_and_an_error_of_the_flight_is_everyones() -> None:
    async def scene() -> None:
        airport = Airport()
        bad = ValueError("bad")
        found = await asyncio.gather(
            airport.submit(1), airport.submit(bad), airport.submit(3), return_exceptions=True
        )
        assert found == [2, bad, 6]

        async def crash(_: Sequence[Any]) -> list[Any]:
            raise RuntimeError("the whole flight")

        broken: Coalescer[int, int] = Coalescer(crash, LIMITS)
        found = await asyncio.gather(
            broken.submit(None, 1, 1), broken.submit(None, 2, 1), return_exceptions=True
        )
        assert [str(error) for error in found] == ["the whole flight"] * 2

        async def lose_one(items: Sequence[int]) -> list[int]:
            return list(items[1:])

        losing: Coalescer[int, int] = Coalescer(lose_one, LIMITS)
        found = await asyncio.gather(
            losing.submit(None, 1, 1), losing.submit(None, 2, 1), return_exceptions=True
        )
        assert [str(error) for error in found] == ["2 items flew and 1 results came back"] * 2
        assert broken.idle
        assert (broken.waiting_rows, broken.flying_rows) == (0, 0)

    asyncio.run(scene())


def test_only_items_of_one_key_share_a_flight() -> None:
    async def scene() -> None:
        airport = Airport()
        keys = "aabba"
        await asyncio.gather(*(airport.submit(at, key=key) for at, key in enumerate(keys)))
        assert airport.flights == [[0, 1], [2, 3], [4]]

    asyncio.run(scene())


def test_an_item_larger_than_a_flight_flies_alone() -> None:
    async def scene() -> None:
        airport = Airport()
        await asyncio.gather(airport.submit(1, 9), airport.submit(2, 99), airport.submit(3, 2))
        assert airport.flights == [[1], [2], [3]]

    asyncio.run(scene())


def test_who_has_gone_before_the_flight_is_left_behind_and_who_goes_during_it_harms_nobody() -> (
    None
):
    async def scene() -> None:
        airport = Airport()
        airport.gate.clear()
        flying, staying = airport.submit(1), airport.submit(2)
        await turns()
        waiting, patient = airport.submit(3), airport.submit(4)
        flying.cancel()
        waiting.cancel()
        airport.gate.set()
        assert await asyncio.gather(staying, patient) == [4, 8]
        assert airport.flights == [[1, 2], [4]]
        assert airport.queue.waiting_rows == 0

    asyncio.run(scene())


def test_a_flight_is_not_ended_with_the_request_that_started_it() -> None:
    async def scene() -> None:
        airport = Airport()
        airport.gate.clear()

        async def request(item: int) -> Any:
            return await airport.submit(item)

        starter, other = asyncio.create_task(request(1)), asyncio.create_task(request(2))
        await turns()
        starter.cancel()
        await turns()
        airport.gate.set()
        assert await other == 4

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("limits", "items", "bound"),
    [
        (replace(LIMITS, waiting_rows=3), [(1, 3)], "rows"),
        (replace(LIMITS, waiting_items=2), [(1, 1), (2, 1)], "requests"),
    ],
)
def test_past_a_bound_more_work_is_refused(
    limits: QueueLimits, items: list[tuple[int, int]], bound: str
) -> None:
    async def scene() -> None:
        airport = Airport(limits)
        airport.gate.clear()
        futures = [airport.submit(0)]
        await turns()
        for item, rows in items:
            airport.queue.check()
            futures.append(airport.submit(item, rows))
        with pytest.raises(Overloaded) as refused:
            airport.queue.check()
        assert refused.value.bound == bound
        airport.gate.set()
        await asyncio.gather(*futures)
        airport.queue.check()

    asyncio.run(scene())


def test_an_old_queue_refuses_more_work_until_it_has_flown() -> None:
    async def scene() -> None:
        airport = Airport()
        airport.gate.clear()
        futures = [airport.submit(0)]
        await turns()
        futures.append(airport.submit(1))
        airport.now = 0.5
        airport.queue.check()
        airport.now = 0.51
        with pytest.raises(Overloaded, match="has waited 510 ms"):
            airport.queue.check()
        airport.gate.set()
        await asyncio.gather(*futures)
        airport.queue.check()

    asyncio.run(scene())


@pytest.mark.parametrize(("slow_flights", "refused"), [(1, False), (2, True)])
def test_a_loop_that_takes_long_to_bring_requests_counts_as_waiting_and_one_pause_does_not(
    slow_flights: int, refused: bool
) -> None:
    async def scene() -> None:
        airport = Airport()
        flying = []
        for number in range(slow_flights):
            flying.append(airport.submit(number))
            airport.gate.set()  # the one before lands, and this one may set off
            await turns(3)
            airport.gate.clear()
            airport.now += 0.4  # the loop was busy with others, turn for turn
            await turns()
        assert airport.flights == [[number] for number in range(slow_flights)]
        waiting = airport.submit(9)
        airport.now += 0.11  # in the queue
        if refused:
            with pytest.raises(Overloaded, match="510 ms"):
                airport.queue.check()
        else:
            airport.queue.check()
        airport.gate.set()
        await asyncio.gather(*flying, waiting)
        airport.queue.check()  # nothing waits

    asyncio.run(scene())


def test_a_load_that_is_over_makes_no_later_request_late() -> None:
    async def scene() -> None:
        airport = Airport()
        for number in range(3):
            flying = airport.submit(number)
            await turns(2)
            airport.now += 0.6
            await flying
            await turns()
            assert airport.queue.idle
        futures = [airport.submit(item) for item in (7, 8)]
        airport.queue.check()
        await asyncio.gather(*futures)

    asyncio.run(scene())


def test_no_more_flights_than_allowed_are_under_way() -> None:
    async def scene() -> None:
        airport = Airport(replace(LIMITS, flights=2, flight_items=1))
        airport.gate.clear()
        futures = [airport.submit(item) for item in range(6)]
        await turns(3 * TURNS)
        assert airport.flights == [[0], [1]]
        airport.gate.set()
        await asyncio.gather(*futures)
        assert airport.most_at_once == 2

    asyncio.run(scene())


work = st.lists(
    st.tuples(st.integers(1, 15), st.sampled_from("ab"), st.booleans(), st.integers(0, 2 * TURNS))
)


@given(work, st.integers(1, 3))
def test_every_item_flies_once_in_order_within_the_bounds(
    items: list[tuple[int, str, bool, int]], flights: int
) -> None:
    async def scene() -> None:
        airport = Airport(replace(LIMITS, flights=flights))
        futures: dict[int, asyncio.Future[Any]] = {}
        gone: set[int] = set()
        for at, (rows, key, leaves, pause) in enumerate(items):
            futures[at] = airport.submit(at, rows, key)
            if leaves:
                futures[at].cancel()
                gone.add(at)
            await turns(pause)
        kept = [future for at, future in futures.items() if at not in gone]
        assert await asyncio.gather(*kept) == [2 * at for at in futures if at not in gone]
        flown = [item for flight in airport.flights for item in flight]
        assert flown == [at for at in futures if at not in gone]
        for flight in airport.flights:
            assert len({items[at][1] for at in flight}) == 1
            assert len(flight) <= LIMITS.flight_items
            assert len(flight) == 1 or sum(items[at][0] for at in flight) <= LIMITS.flight_rows
        assert airport.most_at_once <= flights
        await turns()
        assert airport.queue.idle
        assert (airport.queue.waiting_rows, airport.queue.flying_rows) == (0, 0)

    asyncio.run(scene())
