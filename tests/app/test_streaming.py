"""Workers of a stream, by handle: the same queue, profiles and identities as HTTP."""

import asyncio
from typing import Any

import msgspec
import numpy as np

from sentinel.answers import answers
from sentinel.parse_json import JsonParser
from sentinel.stream_exchange import (
    Labelled,
    OtherContract,
    Scored,
    TryLater,
    pack,
    pack_decisions,
    unpack,
    unpack_decisions,
)
from tests.app.conftest import Run, Scene, numbered, until

Row = dict[str, Any]


def packed(app: Scene, *rows: Row) -> bytes:
    parser = JsonParser(app.stream.contract().description)
    return pack(parser.many(msgspec.json.encode(list(rows))).transactions)


async def streamed(app: Scene, *rows: Row, topic: str = "in") -> Scored | TryLater | OtherContract:
    return await app.stream.score(topic, app.stream.contract().schema, packed(app, *rows))


def as_json(scored: Any) -> list[dict[str, Any]]:
    assert isinstance(scored, Scored), scored
    return [msgspec.to_builtins(each) for each in answers(unpack_decisions(scored.decisions))]


def test_transactions_and_decisions_travel_unchanged(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        rows = [numbered(row, at, amount=at * 999.5) for at in range(50)]
        parser = JsonParser(app.stream.contract().description)
        sent = parser.many(msgspec.json.encode(rows)).transactions
        came = unpack(pack(sent))
        assert came.ids.equals(sent.ids)
        assert all(came.entities[name].equals(keys) for name, keys in sent.entities.items())
        np.testing.assert_array_equal(came.numbers, sent.numbers)
        np.testing.assert_array_equal(came.times, sent.times)
        app.lanes.missing = {"xgboost"}
        scored = await streamed(app, *rows)
        assert isinstance(scored, Scored)
        decisions = unpack_decisions(scored.decisions)
        assert pack_decisions(decisions) == scored.decisions
        assert {each["degraded"] for each in as_json(scored)} == {True}
        assert all(each["reasons"] for each in as_json(scored) if each["decision"] != "approve")

    run(scene)


def test_a_stream_and_http_get_the_same_answers_and_have_ids_of_their_own(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        by_http = (await app.predict(row)).json()
        (by_stream,) = as_json(await streamed(app, row))
        before = app.counted(row)
        assert as_json(await streamed(app, row)) == [by_stream]
        assert app.counted(row) == before == {"customer_id": 2, "terminal_id": 2}
        assert by_stream["model_version"] == by_http["model_version"]
        other = as_json(await streamed(app, row, topic="other"))
        assert app.counted(row) == {"customer_id": 3, "terminal_id": 3}
        assert other != []

    run_profiles(scene, cold=True)


def test_an_id_with_other_fields_and_a_time_to_come_are_refused_by_row(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        await streamed(app, row)
        scored = await streamed(
            app,
            numbered(row, 1),
            {**row, "amount": 1234.5},
            numbered(row, 2, timestamp="2999-01-01T00:00:00Z"),
            numbered(row, 3),
        )
        assert isinstance(scored, Scored)
        assert scored.rows.tolist() == [0, 3]
        assert {(error.index, error.field) for error in scored.refused} == {
            (1, "transaction_id"),
            (2, "timestamp"),
        }

    run_profiles(scene)


def test_a_full_router_tells_a_worker_when_to_come_again(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        tasks = [asyncio.create_task(app.predict(row))]
        await until(lambda: app.flights.queue.flying_rows == 1)
        tasks.append(asyncio.create_task(app.predict(numbered(row, 1))))
        await until(lambda: app.flights.queue.waiting_rows == 1)
        assert await streamed(app, numbered(row, 2)) == TryLater(1, "requests")
        app.lanes.open.set()
        await asyncio.gather(*tasks)

    run(scene, flights=1, waiting_requests=1)


def test_transactions_read_by_another_description_are_not_scored(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        told = await app.stream.score("in", "of before", packed(app, row))
        assert told == OtherContract(app.stream.contract())
        assert app.lanes.asked == []

    run(scene)


def test_a_long_batch_keeps_its_order_and_lets_requests_in_between(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        rows = [numbered(row, at) for at in range(40)]
        app.lanes.open.clear()
        batch = asyncio.create_task(streamed(app, *rows))
        await until(lambda: app.lanes.asked)  # the first two of eight parts
        single = asyncio.create_task(app.predict(numbered(row, 99)))
        await until(lambda: app.flights.queue.waiting_rows >= 1)
        app.lanes.open.set()
        assert (await single).status_code == 200
        assert [each["transaction_id"] for each in as_json(await batch)] == [
            each["transaction_id"] for each in rows
        ]

    run_profiles(scene, flight_rows=10, flights=1)


def test_labels_of_a_stream_count_as_those_by_http(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        await streamed(app, row)
        label = {
            "transaction_id": row["transaction_id"],
            "is_fraud": True,
            "timestamp": row["timestamp"],
        }
        records = [msgspec.json.encode(label), b"{", b"", msgspec.json.encode([label])]
        told = await app.stream.label(records, app.router.label)
        assert isinstance(told, Labelled)
        assert told.outcomes == ("applied",)
        assert [error.index for error in told.refused] == [1, 2, 3]
        again = await app.client.post("/labels", json=[label])
        assert again.json()["results"][0]["outcome"] == "repeated"
        app.profiles.missing = "gone"
        assert await app.stream.label(records[:1], app.router.label) == TryLater(1, "profiles")

    run_profiles(scene)
