"""What a router tells of its load: coalescing hides none of it, and neither does a refusal."""

import asyncio
from typing import Any

import pytest

from sentinel.load_report import ARRIVED, BATCHES, DONE, FLYING, WAITING
from tests.app.conftest import Run, Scene, numbered, until

Row = dict[str, Any]


def test_rows_are_counted_however_they_come_and_fly(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        before = app.flights.report()
        singles = (app.predict(numbered(row, at)) for at in range(20))
        batch = [numbered(row, 100 + at) for at in range(30)]
        *answers, _ = await asyncio.gather(*singles, app.batch(*batch))
        assert {answer.status_code for answer in answers} == {200}
        after = app.flights.report()
        assert after[ARRIVED] - before[ARRIVED] == after[DONE] - before[DONE] == 50
        assert 1 <= after[BATCHES] - before[BATCHES] < 20

    run(scene)


def test_what_waits_and_flies_is_counted_while_it_does_and_no_longer(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        first = asyncio.create_task(app.predict(row))
        await until(lambda: app.lanes.asked)
        others = [asyncio.create_task(app.predict(numbered(row, at))) for at in range(4)]
        await until(lambda: app.flights.queue.waiting_rows == 4)
        before = app.flights.report()
        await asyncio.sleep(0.1)
        during = app.flights.report()
        seconds = during[FLYING] - before[FLYING]  # one row flies
        assert seconds >= 0.1
        assert during[WAITING] - before[WAITING] == pytest.approx(4 * seconds)
        app.lanes.open.set()
        await asyncio.gather(first, *others)
        landed = app.flights.report()
        await asyncio.sleep(0.05)
        after = app.flights.report()
        assert (after[FLYING], after[WAITING]) == (landed[FLYING], landed[WAITING])

    run(scene, flights=1)


def test_what_is_refused_has_arrived_too(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        await app.batch(*(numbered(row, 50 + at) for at in range(7)))
        app.lanes.open.clear()
        tasks = [asyncio.create_task(app.predict(row))]
        await until(lambda: app.flights.queue.flying_rows == 1)
        tasks.append(asyncio.create_task(app.predict(numbered(row, 1))))
        await until(lambda: app.flights.queue.waiting_rows == 1)
        before = app.flights.report()[ARRIVED]
        assert (await app.predict(numbered(row, 2))).status_code == 503
        assert app.flights.report()[ARRIVED] - before == 1
        # It is refused before it is read: it is taken to have as many rows as the last one had.
        three = [numbered(row, 9 + at) for at in range(3)]
        assert (await app.client.post("/predict/batch", json=three)).status_code == 503
        assert app.flights.report()[ARRIVED] - before == 8
        app.lanes.open.set()
        await asyncio.gather(*tasks)

    run(scene, flights=1, waiting_requests=1)
