"""Over HTTP a transaction is answered once and counted once, however often and however it comes."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from sentinel.answers import ARROW, JSON, many_json
from sentinel.bundle import open_bundle
from sentinel.history import history_of
from sentinel.identity import LEASE
from sentinel.parse_json import JsonParser
from sentinel.profile_store import MemoryStore
from sentinel.scoring import score_offline
from serve_app import flights
from serve_app.keys import add_key
from tests.app.conftest import Run, Scene

Row = dict[str, Any]
SCORES = ("fraud_probability", "anomaly_score", "novelty_p")


@pytest.fixture
def row(row: Row) -> Row:
    """A transaction of a customer and a terminal that nobody else has."""
    return {**row, "customer_id": "new customer", "terminal_id": "new terminal"}


def numbered(row: Row, number: int, **changes: Any) -> Row:
    return {**row, "transaction_id": f"t{number}", **changes}


async def until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


def counted(app: Scene, row: Row) -> dict[str, int]:
    """How often the customer and the terminal of a row have been seen."""
    logs = app.profiles.store.profiles.logs
    return {entity: len(log.records(row[entity])) for entity, log in logs.items()}


ONCE = {"customer_id": 1, "terminal_id": 1}


async def batch(app: Scene, *rows: Row) -> Any:
    answer = await app.client.post("/predict/batch", json=rows)
    assert answer.status_code == 200
    return answer.json()


async def arrow(app: Scene, *rows: Row) -> list[dict[str, Any]]:
    """The rows of the answer to these rows as an Arrow stream."""
    table = pa.Table.from_pylist(list(rows))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body, headers = bytes(sink.getvalue()), {"content-type": ARROW}
    answer = await app.client.post("/predict/batch", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    with pa.ipc.open_stream(answer.content) as reader:
        return reader.read_all().to_pylist()


# --- the same again -------------------------------------------------------------------------------


def test_the_same_body_twice_gets_the_same_bytes_and_counts_once(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        first = await app.predict(row)
        between = await app.predict(numbered(row, 2, amount=900.0))
        again = await app.predict(row)
        assert (first.status_code, between.status_code, again.status_code) == (200, 200, 200)
        assert again.content == first.content
        assert app.lanes.asked == [1, 1]
        assert counted(app, row) == {"customer_id": 2, "terminal_id": 2}

    run_profiles(scene)


def test_the_same_transaction_written_otherwise_is_the_same(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        first = await app.predict(row)
        others = [
            {**row, "note": "not a field of ours"},
            {**row, "amount": 57.160, "timestamp": "2018-08-01T12:00:00.0000004+02:00"},
            dict(reversed(row.items())),
        ]
        for other in others:
            assert (await app.predict(other)).content == first.content
        spaced = json.dumps(row, indent=9).replace("new c", "\\u006eew c").encode()
        answer = await app.client.post("/predict", content=spaced, headers={"content-type": JSON})
        assert answer.content == first.content
        assert (await batch(app, row))["results"] == [first.json()]
        (stored,) = await arrow(app, row)
        assert stored == {**first.json(), "error": None}
        assert counted(app, row) == ONCE

    run_profiles(scene)


def test_what_is_answered_is_what_the_profiles_of_the_bundle_make_of_it(
    run_profiles: Run, transactions_bundle: str, row: Row
) -> None:
    """The ingress against the offline oracle: the same rows, the same profiles, the same bytes."""
    bundle = open_bundle(transactions_bundle)
    history = history_of(bundle)
    assert history is not None
    known = {name: list(log.slots)[:5] for name, log in history.store.profiles.logs.items()}
    rows = [
        numbered(row, at, amount=3.0 * at, timestamp=f"2018-05-11T10:{at:02}:00Z",
                 customer_id=known["customer_id"][at % 5], terminal_id=known["terminal_id"][at % 2])
        for at in range(40)
    ]  # fmt: skip
    parsed = JsonParser(bundle.manifest.description).many(msgspec.json.encode(rows))
    behaviour = history.note(parsed.transactions)
    decisions = score_offline(bundle.judge(), bundle.lanes(), parsed.transactions, behaviour)
    expected = msgspec.json.decode(many_json(decisions, parsed))["results"]

    async def scene(app: Scene) -> None:
        got = [(await app.predict(one)).json() for one in rows[:7]]
        got += (await batch(app, *rows[7:]))["results"]
        for ours, theirs in zip(got, expected, strict=True):
            for name in SCORES:
                assert ours.pop(name) == pytest.approx(theirs.pop(name), abs=1e-6)
            assert ours == theirs

    run_profiles(scene)


def test_a_bundle_without_profiles_needs_no_identity(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        first = await app.predict(row)
        assert (await app.predict(row)).content == first.content
        assert (await app.predict({**row, "amount": 1.0})).status_code == 200
        assert app.lanes.asked == [1, 1, 1]

    run(scene)


def test_profiles_that_know_nobody_give_whole_answers(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        answer = (await app.predict(row)).json()
        assert answer["degraded"] is False
        assert all(0 <= answer[name] <= 1 for name in SCORES)
        assert counted(app, row) == ONCE

    run_profiles(scene, cold=True)


# --- other fields under the same id ---------------------------------------------------------------


def test_other_fields_under_the_same_id_are_refused_and_count_nowhere(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        first = await app.predict(row)
        other = {**row, "amount": 57.17}
        for body in (other, {**other, "note": "an unknown field takes another way"}):
            refused = await app.predict(body)
            assert refused.status_code == 409
            assert refused.headers["content-type"] == "application/problem+json"
            (error,) = refused.json()["errors"]
            assert (error["field"], error["value"]) == ("transaction_id", "t1")
            assert "not used with other fields" in error["expected"]
        assert (await app.predict(row)).content == first.content
        assert counted(app, row) == ONCE
        assert app.lanes.asked == [1]

    run_profiles(scene)


def test_in_a_batch_they_are_an_error_of_their_row(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        first = (await app.predict(row)).json()
        rows = [
            numbered(row, 2),
            {**row, "amount": 1.0},
            numbered(row, 3, amount=-1),
            row,
            numbered(row, 2, amount=2.0),
        ]
        answer = await batch(app, *rows)
        assert [one["transaction_id"] for one in answer["results"]] == ["t2", "t1"]
        assert answer["results"][1] == first
        named = [(error["index"], error["field"], error["value"]) for error in answer["errors"]]
        assert named == [
            (1, "transaction_id", "t1"),
            (2, "amount", -1),
            (4, "transaction_id", "t2"),
        ]
        table = await arrow(app, *rows)
        assert [one["transaction_id"] for one in table] == ["t2", None, None, "t1", None]
        for place, word in ((1, "'t1'"), (2, "amount"), (4, "'t2'")):
            assert f"row {place}: " in table[place]["error"]
            assert word in table[place]["error"]
        assert table[3] == {**first, "error": None}

    run_profiles(scene)


def test_another_callers_same_id_is_another_transaction(
    run_profiles: Run, row: Row, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    shop, bank = (add_key(file, name, ("score",)) for name in ("shop", "bank"))

    async def scene(app: Scene) -> None:
        first = await app.predict(row, authorization=f"Bearer {shop}")
        other = {**row, "amount": 9.0}
        second = await app.predict(other, authorization=f"Bearer {bank}")
        assert (first.status_code, second.status_code) == (200, 200)
        assert (await app.predict(other, authorization=f"Bearer {shop}")).status_code == 409
        again = await app.predict(other, authorization=f"Bearer {bank}")
        assert again.content == second.content
        assert counted(app, row) == {"customer_id": 2, "terminal_id": 2}

    run_profiles(scene, keys=str(file))


# --- twins in flight ------------------------------------------------------------------------------


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
        assert counted(app, row) == ONCE

    run_profiles(scene)


def test_twins_that_meet_in_one_flight_are_scored_once(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        answers = await asyncio.gather(*(app.predict(row) for _ in range(8)))
        assert len({answer.content for answer in answers}) == 1
        assert sum(app.lanes.asked) == 1
        assert counted(app, row) == ONCE

    run_profiles(scene, flights=1)


def test_twins_of_singles_and_batches_wait_for_each_other(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        rows = [numbered(row, at) for at in range(3)]
        tasks = [asyncio.create_task(batch(app, *rows, rows[0], numbered(row, 9)))]
        await until(lambda: app.lanes.asked)
        tasks.append(asyncio.create_task(app.predict(rows[1])))
        tasks.append(asyncio.create_task(arrow(app, rows[2], numbered(row, 5), rows[0])))
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
        assert counted(app, row) == {"customer_id": 5, "terminal_id": 5}
        assert sum(app.lanes.asked) == 5

    run_profiles(scene)


def test_many_requests_of_few_transactions_are_scored_once_each(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        rows = [numbered(row, at % 7, amount=1.0 + at % 7) for at in range(60)]
        singles = [app.predict(one) for one in rows[:40]]
        batches = [batch(app, *rows[at : at + 5]) for at in range(40, 60, 5)]
        answers = await asyncio.gather(*singles, *batches)
        told: dict[str, set[str]] = {}
        for answer in answers:
            got = [answer.json()] if isinstance(answer, httpx.Response) else answer["results"]
            for one in got:
                told.setdefault(one["transaction_id"], set()).add(json.dumps(one))
        assert {name: len(every) for name, every in told.items()} == {f"t{n}": 1 for n in range(7)}
        assert sum(app.lanes.asked) == 7
        assert counted(app, row) == {"customer_id": 7, "terminal_id": 7}

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
        assert counted(app, row) == ONCE

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


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["xgboost", "isolation_forest"])
def test_a_degraded_answer_is_not_stored_and_counts_once(
    run_profiles: Run, row: Row, lane: str
) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.missing = {lane}
        first = (await app.predict(row)).json()
        await app.predict(numbered(row, 2, timestamp="2018-08-01T10:00:01Z"))
        app.lanes.missing = set()
        second = await app.predict(row)
        assert (first["degraded"], second.json()["degraded"]) == (True, False)
        assert (await app.predict(row)).content == second.content
        assert counted(app, row) == {"customer_id": 2, "terminal_id": 2}
        whole = {name for name in SCORES if first[name] is not None}
        assert whole
        assert all(first[name] == second.json()[name] for name in whole), "it saw what it saw first"

    run_profiles(scene)


def test_lanes_that_fail_free_what_they_were_asked_for(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.failure = RuntimeError("no model")
        app.lanes.open.clear()
        tasks = [asyncio.create_task(app.predict(row))]
        await until(lambda: app.lanes.asked)
        tasks.append(asyncio.create_task(app.predict(row)))
        await asyncio.sleep(0.02)
        app.lanes.open.set()
        answers = await asyncio.gather(*tasks)
        assert {answer.status_code for answer in answers} == {500}
        refused = await app.client.post("/predict/batch", json=[row, numbered(row, 2)])
        assert refused.status_code == 500
        app.lanes.failure = None
        start = time.monotonic()
        answer = await app.predict(row)
        assert time.monotonic() - start < LEASE / 2
        assert answer.json()["degraded"] is False
        assert (await batch(app, row, numbered(row, 2)))["results"][0] == answer.json()
        assert counted(app, row) == {"customer_id": 2, "terminal_id": 2}

    run_profiles(scene)


def test_without_profiles_answers_are_degraded_finite_and_never_an_error(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        app.profiles.missing = "it is down"
        known = next(iter(app.profiles.store.profiles.log("customer_id").slots))
        rows = [row, row, numbered(row, 2, customer_id=known), {**row, "amount": 1e300}]
        singles = [await app.predict(one) for one in rows]
        assert [answer.status_code for answer in singles] == [200] * 4
        answers = [answer.json() for answer in singles] + (await batch(app, *rows))["results"]
        answers += await arrow(app, *rows)
        assert len(answers) == 12
        for answer in answers:
            assert answer["degraded"] is True
            assert all(np.isfinite(answer[name]) and 0 <= answer[name] <= 1 for name in SCORES)
            assert answer["decision"] in ("approve", "review", "block")
        app.profiles.missing = ""
        whole = (await app.predict(row)).json()
        assert whole["degraded"] is False
        assert counted(app, row) == ONCE

    run_profiles(scene)


def test_an_answer_that_could_not_be_kept_is_not_promised(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.profiles.keeps = False
        answer = (await app.predict(row)).json()
        assert answer["degraded"] is True
        assert all(answer[name] is not None for name in SCORES)

    run_profiles(scene)


def test_amounts_beyond_all_measure_are_answered(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        amounts = [0.0, 1e-9, 5.0, 1e300, 1.7e308, 1e-300]
        rows = [numbered(row, at, amount=amount) for at, amount in enumerate(amounts)]
        for one in rows:
            answer = await app.predict(one)
            assert answer.status_code == 200
            assert all(0 <= answer.json()[name] <= 1 for name in SCORES)

    run_profiles(scene, cold=True)


# --- times to come --------------------------------------------------------------------------------


def in_seconds(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_a_time_that_has_not_come_yet_is_refused_and_counts_nowhere(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        late = numbered(row, 2, timestamp=in_seconds(3_600))
        for body in (late, {**late, "note": "another way"}):
            refused = await app.predict(body)
            assert refused.status_code == 422
            problem = refused.json()
            assert problem["field"] == "timestamp"
            assert problem["value"].startswith(late["timestamp"][:-1])
            assert "no later than" in problem["expected"]
        soon = numbered(row, 3, timestamp=in_seconds(200))
        answer = await batch(app, row, late, soon)
        assert [one["transaction_id"] for one in answer["results"]] == ["t1", "t3"]
        (error,) = answer["errors"]
        assert (error["index"], error["field"]) == (1, "timestamp")
        table = await arrow(app, late, row)
        assert [one["transaction_id"] for one in table] == [None, "t1"]
        assert "no later than" in table[0]["error"]
        assert counted(app, row) == {"customer_id": 2, "terminal_id": 2}

    run_profiles(scene)


def test_among_many_that_fly_together_only_the_one_to_come_is_refused(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        bodies = [numbered(row, at) for at in range(6)]
        bodies[2]["timestamp"] = in_seconds(900)
        bodies[4]["amount"] = -1.0
        answers = await asyncio.gather(*(app.predict(body) for body in bodies))
        assert [answer.status_code for answer in answers] == [200, 200, 422, 200, 422, 200]
        fields = [answers[at].json()["field"] for at in (2, 4)]
        assert fields == ["timestamp", "amount"]
        for at in (0, 1, 3, 5):
            assert answers[at].json()["transaction_id"] == f"t{at}"

    run_profiles(scene, flights=1)


def test_a_time_of_any_age_is_taken(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        times = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"]
        for at, moment in enumerate(reversed(times)):
            answer = await app.predict(numbered(row, at, timestamp=moment))
            assert answer.status_code == 200
        assert counted(app, row) == {"customer_id": 3, "terminal_id": 3}
        assert isinstance(app.profiles.store, MemoryStore)

    run_profiles(scene)
