"""``sentinel ingest`` on a real broker, a real Ray Serve and Redis, each killed in its turn."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from sentinel.fields import microseconds, read_timestamp
from sentinel.records import SCALE
from sentinel.redis_store import RedisStore
from tests.kafka.account import account
from tests.kafka.brokers import Brokers
from tests.kafka.commands import Started, result_of, sentinel, wait_until
from tests.kafka.faults import fault
from tests.kafka.in_process import names_of
from tests.kafka.test_worker import payments, send
from tests.redis.server import RedisServer
from tests.serve.serving import Served, sentinel_serve

ROWS = 30_000
CUSTOMERS = 600
"""Few enough transactions of each that its record keeps every single one (at most 512)."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Keeps what it acknowledged, whatever happens to it."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    server = RedisServer(tmp_path_factory.mktemp("redis"), *durable).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def served(
    redis: RedisServer, transactions_bundle: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """``sentinel serve`` with its profiles on Redis."""
    folder = tmp_path_factory.mktemp("served")
    arguments = ("--bundle", transactions_bundle, "--profiles", redis.uri)
    with sentinel_serve(transactions_bundle, folder, *arguments) as running:
        yield running


class Flow:
    """A stream of its own through the application."""

    def __init__(self, kafka: Brokers, prefix: str, offset: int) -> None:
        self.kafka, self.prefix = kafka, prefix
        self.rows = [
            {
                **row,
                "customer_id": f"{prefix}.c{at % CUSTOMERS}",
                "amount": row["amount"] + offset,
            }
            for at, row in enumerate(payments(ROWS))
        ]
        self.names = names_of(prefix)
        kafka.create(self.names.input, 6)

    @property
    def command(self) -> list[str]:
        return [
            *("ingest", "--bootstrap-servers", self.kafka.bootstrap, "--group", self.prefix),
            *("--input", self.names.input, "--output", self.names.output),
            *("--alerts", self.names.alerts, "--dead-letters", self.names.dead_letters),
            *("--labels", self.names.labels, "--workers", "2:2"),
        ]

    def send(self, start: int, stop: int) -> None:
        send(self.kafka, self.names.input, self.rows[start:stop])

    def committed(self) -> int:
        return sum(self.kafka.committed(self.prefix, self.names.input).values())

    def check_profiles(self, redis: RedisServer) -> None:
        """Each transaction counts once: as in a run that nothing disturbs."""
        wanted: dict[str, Counter[tuple[int, int]]] = {}
        for row in self.rows:
            moment = read_timestamp(row["timestamp"])
            assert moment is not None
            event = (microseconds(moment), round(row["amount"] * SCALE))
            wanted.setdefault(row["customer_id"], Counter())[event] += 1
        found = asyncio.run(_records(redis.uri, list(wanted)))
        assert {key: each.total() for key, each in found.items()} == {
            key: each.total() for key, each in wanted.items()
        }
        assert found == wanted


async def _records(uri: str, keys: list[str]) -> dict[str, Counter[tuple[int, int]]]:
    store = RedisStore(uri, "transactions")
    await store.check()
    try:
        found = {key: await store.show("customer_id", key) for key in keys}
    finally:
        await store.close()
    return {
        key: Counter(zip(each["time"].tolist(), each["amount"].tolist(), strict=True))
        for key, each in found.items()
    }


def workers_of(served: Served) -> list[int]:
    """The processes of the pool's workers."""
    family = served.family()
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "ray::WorkerActor" in " ".join(process.info["cmdline"] or ()) and process.pid in family
    ]


def test_until_caught_up_says_what_it_did_and_the_same_again_does_nothing(
    kafka: Brokers, prefix: str, served: Served, redis: RedisServer
) -> None:
    flow = Flow(kafka, prefix, 0)
    flow.send(0, ROWS)
    kafka.send(flow.names.input, [b"{"])
    first = result_of(*flow.command, "--until-caught-up")
    assert (first["records"], first["decisions"], first["dead_letters"]) == (ROWS + 1, ROWS, 1)
    again = result_of(*flow.command, "--until-caught-up")
    assert again["records"] == again["decisions"] == again["dead_letters"] == 0
    fault("nothing", account(kafka, flow.names), 0)
    flow.check_profiles(redis)


Harm = Callable[[Served, RedisServer], None]


def _kill_worker(served: Served, _: RedisServer) -> None:
    os.kill(workers_of(served)[0], signal.SIGKILL)


def _kill_router(served: Served, _: RedisServer) -> None:
    os.kill(served.replicas("FraudRouter")[0], signal.SIGKILL)


def _kill_lane(served: Served, _: RedisServer) -> None:
    os.kill(served.replicas("XGBoost")[0], signal.SIGKILL)


def _kill_redis(_: Served, redis: RedisServer) -> None:
    redis.kill()
    redis.start()


@pytest.mark.parametrize(
    ("what", "harm", "offset"),
    [
        ("a worker killed", _kill_worker, 1),
        ("the router killed", _kill_router, 2),
        ("the XGBoost replica killed", _kill_lane, 3),
        ("Redis killed, and started again", _kill_redis, 4),
    ],
)
def test_nothing_is_lost_or_doubled_when_it_is_killed(
    kafka: Brokers,
    prefix: str,
    served: Served,
    redis: RedisServer,
    what: str,
    harm: Harm,
    offset: int,
) -> None:
    flow = Flow(kafka, prefix, offset)
    flow.send(0, ROWS // 2)
    with Started(*flow.command) as running:
        wait_until(lambda: flow.committed() > ROWS // 10, "the first commits")
        flow.send(ROWS // 2, ROWS)
        harm(served, redis)
        wait_until(lambda: flow.committed() >= ROWS, "everything to be committed", 240)
        running.tell(signal.SIGTERM)
        code, said = running.ended()
        assert code == 0, said
    fault(what, account(kafka, flow.names), "")
    flow.check_profiles(redis)


def test_the_supervisor_may_be_killed_and_the_same_command_goes_on(
    kafka: Brokers, prefix: str, served: Served, redis: RedisServer
) -> None:
    flow = Flow(kafka, prefix, 5)
    flow.send(0, ROWS // 2)
    with Started(*flow.command) as running:
        wait_until(lambda: flow.committed() > ROWS // 10, "the first commits")
        flow.send(ROWS // 2, ROWS)
        running.tell(signal.SIGKILL)
    done: dict[str, Any] = result_of(*flow.command, "--until-caught-up")
    assert done["records"] > 0
    fault("the supervisor killed, and the command run again", account(kafka, flow.names), "")
    flow.check_profiles(redis)


def test_without_an_application_it_says_so(kafka: Brokers, prefix: str, served: Served) -> None:
    flow = Flow(kafka, prefix, 6)
    said = sentinel(*flow.command, "--application", "nobody", ok=False).stderr
    assert "no application 'nobody' runs" in said
