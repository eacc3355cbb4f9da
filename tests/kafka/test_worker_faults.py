"""What goes wrong around a worker: after each, every record has one decision or one dead letter."""

import asyncio
import os
import time
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from kafka_ingest.errors import Fenced, ScoringFailed
from sentinel.answers import ARROW
from sentinel.stream_exchange import TryLater, unpack
from tests.kafka.account import account
from tests.kafka.brokers import Brokers
from tests.kafka.faults import fault
from tests.kafka.in_process import LocalApp, Stream, stream
from tests.kafka.test_worker import payments, send

GONE_SECONDS = float(os.environ.get("SENTINEL_BROKER_GONE_SECONDS", "8"))
"""How long a broker is away; the full measure is 60."""


def checked(flow: Stream, what: str) -> Any:
    """The account of a stream that went through ``what``, for the table."""
    found = account(flow.brokers, flow.names)
    fault(what, found, sum(meter.aborts for meter in flow.meters))
    return found


def test_a_zombie_is_fenced(kafka: Brokers, prefix: str, plain_bundle: str) -> None:
    async def scene() -> None:
        app = LocalApp(plain_bundle)
        flow = stream(kafka, prefix, app, batch_records=50)
        rows = payments(2_000)
        send(kafka, flow.names.input, rows[:1_000])
        zombie = asyncio.create_task(flow.worker(0).run())
        await flow.until_done()
        async with flow.working(0):
            await asyncio.sleep(2)  # it has taken the id
            send(kafka, flow.names.input, rows[1_000:])
            with pytest.raises(Fenced, match="another worker has this id"):
                await zombie
            await flow.until_done()
        checked(flow, "a zombie with the transactional id of its successor")

    asyncio.run(scene())


def test_a_record_that_cannot_be_scored_is_a_dead_letter(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        app = LocalApp(plain_bundle)

        async def fails_at_one(columns: bytes) -> None:
            if "t77" in unpack(columns).ids.to_pylist():
                raise ScoringFailed("ValueError: seventy-seven")

        app.meddle = fails_at_one
        flow = stream(kafka, prefix, app)
        send(kafka, flow.names.input, payments(500))
        async with flow.working():
            await flow.until_done()
        found = checked(flow, "a record that the application fails at")
        (letter,) = found.dead
        assert b"seventy-seven" in letter.headers["reason"]
        assert b'"t77"' in (letter.value or b"")

    asyncio.run(scene())


def test_an_application_that_fails_at_everything_ends_the_worker_and_loses_nothing(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        app = LocalApp(plain_bundle)

        async def fails(_: bytes) -> None:
            raise ScoringFailed("ValueError: all of them")

        app.meddle = fails
        flow = stream(kafka, prefix, app)
        send(kafka, flow.names.input, payments(500))
        with pytest.raises(ScoringFailed):
            await flow.worker().run()
        app.meddle = None
        async with flow.working():
            await flow.until_done()
        found = checked(flow, "an application that fails at everything, then is mended")
        assert not found.dead

    asyncio.run(scene())


def test_an_oversized_record_is_a_dead_letter_whole_or_cut(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(plain_bundle), partitions=1)
        big = kafka.create(f"{prefix}.big", 1, {"max.message.bytes": str(4 << 20)})
        flow.names = flow.names.model_copy(update={"input": big})
        whole_one, over = os.urandom(900_000), os.urandom(1_500_000)
        rows = [msgspec.json.encode(row) for row in payments(20)]
        kafka.send(big, [*rows[:10], whole_one, *rows[10:]])
        producer = Producer({**kafka.client, "message.max.bytes": 4 << 20})
        producer.produce(big, over)
        assert producer.flush(30) == 0
        async with flow.working():
            await flow.until_done()
        found = checked(flow, "records too large to be transactions, one for its dead letter too")
        whole, cut = found.dead
        assert whole.value == whole_one
        assert cut.value == over[: len(cut.value or b"")]
        assert cut.headers["size"] == b"1500000"
        assert b"expected at most" in cut.headers["reason"]

    asyncio.run(scene())


def test_a_slow_application_makes_the_worker_wait_and_stay_in_its_group(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        app = LocalApp(plain_bundle)
        calls = 0

        async def slow(_: bytes) -> TryLater | None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(1.5)
            return TryLater(0.1, "age") if calls % 2 else None

        app.meddle = slow
        flow = stream(kafka, prefix, app, batch_records=300)
        send(kafka, flow.names.input, payments(2_000))
        async with flow.working():
            await flow.until_done()
        checked(flow, "an application that is slow, and sheds every other batch")
        (meter,) = flow.meters
        assert meter.waited["shed"] >= 3
        assert meter.aborts == 0

    asyncio.run(scene())


def test_a_degraded_answer_is_waited_for_and_then_taken(
    kafka: Brokers, prefix: str, transactions_bundle: str
) -> None:
    async def scene() -> None:
        app = LocalApp(transactions_bundle)
        flow = stream(kafka, prefix, app)
        app.profiles.missing = "gone"
        send(kafka, flow.names.input, payments(200))
        async with flow.working():
            await asyncio.sleep(3)
            app.profiles.missing = ""
            await flow.until_done()
        found = checked(flow, "profiles away for three seconds")
        assert not any(answer["degraded"] for answer in found.answers)
        app.lanes.missing = {"xgboost"}
        send(kafka, flow.names.input, payments(200, start=1_000))
        async with flow.working(whole_s=0):
            await flow.until_done()
        again = account(kafka, flow.names)
        again.check()
        assert sum(answer["degraded"] for answer in again.answers) == 200

    asyncio.run(scene())


def test_twins_of_the_producer_get_the_stored_answer_and_count_once(
    kafka: Brokers, prefix: str, transactions_bundle: str
) -> None:
    async def scene() -> None:
        app = LocalApp(transactions_bundle)
        flow = stream(kafka, prefix, app)
        rows = payments(300)
        send(kafka, flow.names.input, rows)
        async with flow.working():
            await flow.until_done()
            send(kafka, flow.names.input, rows)
            await flow.until_done()
        found = checked(flow, "every record sent twice by its producer")
        by_name: dict[str, list[Any]] = {}
        for answer in found.answers:
            by_name.setdefault(answer["transaction_id"], []).append(answer)
        assert all(first == second for first, second in by_name.values())
        logs = app.profiles.store.profiles.logs["customer_id"]
        assert sum(len(logs.records(f"c{at}")) for at in range(10)) == len(rows)

    asyncio.run(scene())


def test_a_record_may_hold_many_transactions_as_arrow(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(plain_bundle), partitions=1)
        good, bad = payments(40), {**payments(1, 99)[0], "amount": -5.0}
        tables = [pa.Table.from_pylist(good[:20]), pa.Table.from_pylist([*good[20:], bad])]
        for table in tables:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            body = bytes(sink.getvalue())
            kafka.send(flow.names.input, [body], headers={"Content-Type": ARROW.encode()})
        kafka.send(flow.names.input, [b"none"], headers={"content-type": ARROW.encode()})
        send(kafka, flow.names.input, payments(3, 200))
        async with flow.working():
            await flow.until_done()
        found = account(kafka, flow.names)
        names = [answer["transaction_id"] for answer in found.answers]
        assert names == [row["transaction_id"] for row in [*good, *payments(3, 200)]]
        rows, none = found.dead
        (error,) = msgspec.json.decode(rows.headers["rows"])
        assert (error["index"], error["field"], error["value"]) == (20, "amount", -5.0)
        assert none.value == b"none"

    asyncio.run(scene())


def test_a_full_sink_is_waited_for(kafka: Brokers, prefix: str, plain_bundle: str) -> None:
    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(plain_bundle), transaction_timeout_s=4)
        _set(kafka, flow.names.output, "max.message.bytes", "150")
        send(kafka, flow.names.input, payments(1_000))
        async with flow.working():
            await asyncio.sleep(8)
            assert flow.meters[0].aborts > 1
            assert not flow.done()
            _set(kafka, flow.names.output, "max.message.bytes", "1000000")
            await flow.until_done()
        checked(flow, "a sink that takes nothing for eight seconds")

    asyncio.run(scene())


def test_a_broker_that_is_gone_for_a_while_is_waited_for(
    fragile: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        flow = stream(fragile, prefix, LocalApp(plain_bundle), batch_records=200)
        rows = payments(6_000)
        send(fragile, flow.names.input, rows)
        async with flow.working():
            await asyncio.sleep(0.6)
            await asyncio.to_thread(fragile.kill)
            await asyncio.sleep(GONE_SECONDS)
            await asyncio.to_thread(fragile.start)
            await flow.until_done()
        checked(flow, f"the only broker killed, and back after {GONE_SECONDS:g} s")

    asyncio.run(scene())


def test_one_of_three_brokers_may_die(three: Brokers, prefix: str, plain_bundle: str) -> None:
    async def scene() -> None:
        flow = stream(three, prefix, LocalApp(plain_bundle), partitions=6, batch_records=200)
        rows = payments(8_000)
        send(three, flow.names.input, rows[:4_000])
        async with flow.working(0), flow.working(1):
            await asyncio.sleep(1)
            await asyncio.to_thread(three.kill, 2)
            await asyncio.to_thread(send, three, flow.names.input, rows[4_000:])
            await flow.until_done()
        await asyncio.to_thread(three.start)
        checked(flow, "one of three brokers killed")

    asyncio.run(scene())


def test_a_storm_of_rebalances_loses_and_doubles_nothing(
    kafka: Brokers, prefix: str, plain_bundle: str
) -> None:
    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(plain_bundle), partitions=6, batch_records=100)
        send(kafka, flow.names.input, payments(20_000))
        until = time.monotonic() + 15

        async def comes_and_goes(slot: int) -> None:
            while time.monotonic() < until:
                async with flow.working(slot):
                    await asyncio.sleep(1 + slot / 3)

        async with flow.working(0), asyncio.TaskGroup() as storm:
            for slot in (1, 2, 3):
                storm.create_task(comes_and_goes(slot))
        async with flow.working(0):
            await flow.until_done()
        checked(flow, "workers that come and go for fifteen seconds")

    asyncio.run(scene())


def _set(brokers: Brokers, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(brokers.client)
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(30)
