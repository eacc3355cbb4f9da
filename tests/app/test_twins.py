"""The same transaction sent again while it is being judged waits for the one result."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from sentinel.identity import LEASE
from serve_app import flights
from tests.app.conftest import Run, Scene, numbered, until

Row = dict[str, Any]
ONCE = {"customer_id": 1, "terminal_id": 1}


@pytest.fixture
def row(row: Row) -> Row:
    """A transaction of a customer and a terminal that nobody else has."""
    return {**row, "customer_id": "new customer", "terminal_id": "new terminal"}


def test_twins_in_flight_wait_for_one_result(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        first = asyncio.create_task(app.predict(row))
        await until(lambda: app.lanes.asked)
        twins = [asyncio.create_task(app.predict(row)) for _ in range(5)]
        other = asyncio.create_task(app.predict({**row, "amount": 1.0}))
        assert (await other).status_code == 409, "a conflict is told at once"
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in [first, *twins])
        app.lanes.open.set()
        answers = await asyncio.gather(first, *twins)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert app.lanes.asked == [1]
        assert app.counted(row) == ONCE

    run_profiles(scene)


def test_twins_that_meet_in_one_flight_are_scored_once(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        answers = await asyncio.gather(*(app.predict(row) for _ in range(8)))
        assert len({answer.content for answer in answers}) == 1
        assert sum(app.lanes.asked) == 1
        assert app.counted(row) == ONCE

    run_profiles(scene, flights=1)


def test_twins_of_singles_and_batches_wait_for_each_other(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        rows = [numbered(row, at) for at in range(3)]
        tasks = [asyncio.create_task(app.batch(*rows, rows[0], numbered(row, 9)))]
        await until(lambda: app.lanes.asked)
        tasks.append(asyncio.create_task(app.predict(rows[1])))
        tasks.append(asyncio.create_task(app.arrow(rows[2], numbered(row, 5), rows[0])))
        await asyncio.sleep(0.02)
        app.lanes.open.set()
        of_json, single, of_arrow = await asyncio.gather(*tasks)
        results = of_json["results"]
        assert [one["transaction_id"] for one in results] == ["t0", "t1", "t2", "t0", "t9"]
        assert results[0] == results[3]
        assert single.json() == results[1]
        assert [one["transaction_id"] for one in of_arrow] == ["t2", "t5", "t0"]
        assert of_arrow[0] == {**results[2], "error": None}
        assert of_arrow[2] == {**results[0], "error": None}
        assert app.counted(row) == {"customer_id": 5, "terminal_id": 5}
        assert sum(app.lanes.asked) == 5

    run_profiles(scene)


def test_many_requests_of_few_transactions_are_scored_once_each(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        rows = [numbered(row, at % 7, amount=1.0 + at % 7) for at in range(60)]
        singles = [app.predict(one) for one in rows[:40]]
        batches = [app.batch(*rows[at : at + 5]) for at in range(40, 60, 5)]
        answers = await asyncio.gather(*singles, *batches)
        told: dict[str, set[str]] = {}
        for answer in answers:
            got = [answer.json()] if isinstance(answer, httpx.Response) else answer["results"]
            for one in got:
                told.setdefault(one["transaction_id"], set()).add(json.dumps(one))
        assert {name: len(every) for name, every in told.items()} == {f"t{n}": 1 for n in range(7)}
        assert sum(app.lanes.asked) == 7
        assert app.counted(row) == {"customer_id": 7, "terminal_id": 7}

    run_profiles(scene, flight_rows=8)


async def claimed_by_another(app: Scene, row: Row, since: float) -> None:
    """As if another router had taken it in at ``since`` and not answered."""
    store = app.profiles.store
    app.lanes.open.clear()
    store._clock = lambda: since
    task = asyncio.create_task(app.predict(row))
    await until(lambda: app.lanes.asked)
    task.cancel()
    app.profiles.keeps = True
    store._clock = time.time


def test_a_twin_whose_holder_died_is_judged_once_the_lease_is_over(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        await claimed_by_another(app, row, time.time() - LEASE + 0.2)
        app.lanes.asked.clear()
        twin = asyncio.create_task(app.predict(row))
        await asyncio.sleep(0.05)
        assert app.lanes.asked == []
        await until(lambda: app.lanes.asked)
        app.lanes.open.set()
        assert (await twin).json()["degraded"] is False
        assert app.counted(row) == ONCE

    run_profiles(scene)


def test_a_twin_that_takes_too_long_is_told_to_come_again(
    run_profiles: Run, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "TWIN_SECONDS", 0.05)

    async def scene(app: Scene) -> None:
        await claimed_by_another(app, row, time.time())
        for path, body in (("/predict", row), ("/predict/batch", [row])):
            refused = await app.client.post(path, json=body)
            assert (refused.status_code, refused.json()["bound"]) == (503, "twin")
            assert refused.headers["retry-after"] == "1"
        app.lanes.open.set()

    run_profiles(scene)
