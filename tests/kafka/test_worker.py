"""A worker on a real broker, with the application in this process."""

import asyncio
from typing import Any

import msgspec
import pytest

from tests.kafka.account import account
from tests.kafka.brokers import Brokers
from tests.kafka.in_process import LocalApp, stream

Row = dict[str, Any]


def payments(count: int, start: int = 0) -> list[Row]:
    """Made-up transactions of ten customers, a second apart."""
    return [
        {
            "transaction_id": f"t{at}",
            "timestamp": f"2018-08-01T{10 + at // 3600 % 10:02}:{at // 60 % 60:02}:{at % 60:02}Z",
            "customer_id": f"c{at % 10}",
            "terminal_id": f"s{at % 7}",
            "amount": round(5 + at * 37 % 400 + 0.25, 2),
        }
        for at in range(start, start + count)
    ]


def send(brokers: Brokers, topic: str, rows: list[Row]) -> None:
    brokers.send(
        topic,
        [msgspec.json.encode(row) for row in rows],
        [row["customer_id"].encode() for row in rows],
    )


def test_every_record_has_one_decision_with_the_customers_key(
    kafka: Brokers, prefix: str, transactions_bundle: str
) -> None:
    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(transactions_bundle))
        send(kafka, flow.names.input, payments(3_000))
        async with flow.working():
            await flow.until_done()
        found = account(kafka, flow.names)
        found.check()
        assert len(found.decisions) == 3_000
        assert {one.key for one in found.decisions} == {b"c%d" % at for at in range(10)}
        by_key: dict[bytes | None, list[int]] = {}
        for one in found.decisions:
            name = msgspec.json.decode(one.value or b"")["transaction_id"]
            by_key.setdefault(one.key, []).append(int(name[1:]))
        assert all(names == sorted(names) for names in by_key.values()), "a customer's order"

    asyncio.run(scene())


def test_a_bad_record_goes_to_the_dead_letters_unchanged(
    kafka: Brokers, prefix: str, transactions_bundle: str
) -> None:
    good = payments(4)
    bad: list[tuple[bytes | None, str, str]] = [
        (b"{", "", "not JSON"),
        (b"", "", "empty"),
        (None, "", "empty"),
        (msgspec.json.encode(good), "", "expected an object"),
        (b"null", "", "expected an object"),
        (msgspec.json.encode({**good[0], "amount": -1}), "amount", "expected a finite number"),
        (b'"' + b"x" * 500_000 + b'"', "", "expected an object"),
        (b"\xff\xfe", "", "not UTF-8"),
        (msgspec.json.encode({**good[0], "amount": 77.5}), "transaction_id", "not used with"),
        (
            msgspec.json.encode(
                {**good[0], "transaction_id": "f", "timestamp": "2999-01-01T00:00:00Z"}
            ),
            "timestamp",
            "no later than",
        ),
    ]

    async def scene() -> None:
        flow = stream(kafka, prefix, LocalApp(transactions_bundle), partitions=1)
        values = [*map(msgspec.json.encode, good), *(value for value, _, _ in bad)]
        kafka.send(flow.names.input, values, [b"k"] * len(values))
        async with flow.working():
            await flow.until_done()
        found = account(kafka, flow.names)
        found.check()
        assert len(found.decisions) == len(good)
        assert [one.value for one in found.dead] == [value for value, _, _ in bad]
        for letter, (_, field, reason) in zip(found.dead, bad, strict=True):
            assert letter.key == b"k"
            assert letter.headers["field"].decode() == field
            assert reason in letter.headers["reason"].decode()
            assert letter.headers["topic"].decode() == flow.names.input

    asyncio.run(scene())


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_rebalance_loses_and_doubles_nothing(
    kafka: Brokers, prefix: str, plain_bundle: str, protocol: str
) -> None:
    async def scene() -> None:
        app = LocalApp(plain_bundle)
        flow = stream(kafka, prefix, app, protocol=protocol, batch_records=200)
        rows = payments(12_000)
        send(kafka, flow.names.input, rows[:6_000])
        async with flow.working(0):
            await asyncio.sleep(1)
            async with flow.working(1), flow.working(2):
                send(kafka, flow.names.input, rows[6_000:])
                await asyncio.sleep(2)
            async with flow.working(1):
                await flow.until_done()
        account(kafka, flow.names).check()

    asyncio.run(scene())
