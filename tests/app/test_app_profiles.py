"""Over HTTP a transaction is answered once and counted once, however often and however it comes."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.answers import JSON, many_json
from sentinel.bundle import open_bundle
from sentinel.history import history_of
from sentinel.identity import LEASE
from sentinel.parse_json import JsonParser
from sentinel.profile_store import MemoryStore
from sentinel.scoring import score_offline
from serve_app.keys import add_key
from tests.app.conftest import Run, Scene, numbered, until

Row = dict[str, Any]
SCORES = ("fraud_probability", "anomaly_score", "novelty_p")
ONCE = {"customer_id": 1, "terminal_id": 1}


@pytest.fixture
def row(row: Row) -> Row:
    """A transaction of a customer and a terminal that nobody else has."""
    return {**row, "customer_id": "new customer", "terminal_id": "new terminal"}


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
        assert app.counted(row) == {"customer_id": 2, "terminal_id": 2}

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
        assert (await app.batch(row))["results"] == [first.json()]
        (stored,) = await app.arrow(row)
        assert stored == {**first.json(), "error": None}
        assert app.counted(row) == ONCE

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
        got += (await app.batch(*rows[7:]))["results"]
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
        assert app.counted(row) == ONCE

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
        assert app.counted(row) == ONCE
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
        answer = await app.batch(*rows)
        assert [one["transaction_id"] for one in answer["results"]] == ["t2", "t1"]
        assert answer["results"][1] == first
        named = [(error["index"], error["field"], error["value"]) for error in answer["errors"]]
        assert named == [
            (1, "transaction_id", "t1"),
            (2, "amount", -1),
            (4, "transaction_id", "t2"),
        ]
        table = await app.arrow(*rows)
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
        assert app.counted(row) == {"customer_id": 2, "terminal_id": 2}

    run_profiles(scene, keys=str(file))


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
        assert app.counted(row) == {"customer_id": 2, "terminal_id": 2}
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
        assert (await app.batch(row, numbered(row, 2)))["results"][0] == answer.json()
        assert app.counted(row) == {"customer_id": 2, "terminal_id": 2}

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
        answers = [answer.json() for answer in singles] + (await app.batch(*rows))["results"]
        answers += await app.arrow(*rows)
        assert len(answers) == 12
        for answer in answers:
            assert answer["degraded"] is True
            assert all(np.isfinite(answer[name]) and 0 <= answer[name] <= 1 for name in SCORES)
            assert answer["decision"] in ("approve", "review", "block")
        app.profiles.missing = ""
        whole = (await app.predict(row)).json()
        assert whole["degraded"] is False
        assert app.counted(row) == ONCE

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
        answer = await app.batch(row, late, soon)
        assert [one["transaction_id"] for one in answer["results"]] == ["t1", "t3"]
        (error,) = answer["errors"]
        assert (error["index"], error["field"]) == (1, "timestamp")
        table = await app.arrow(late, row)
        assert [one["transaction_id"] for one in table] == [None, "t1"]
        assert "no later than" in table[0]["error"]
        assert app.counted(row) == {"customer_id": 2, "terminal_id": 2}

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
        assert app.counted(row) == {"customer_id": 3, "terminal_id": 3}
        assert isinstance(app.profiles.store, MemoryStore)

    run_profiles(scene)
