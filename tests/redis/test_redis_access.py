"""Passwords, TLS and clusters; and what is said of a Redis that cannot be used."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployments.profile_settings import ProfileSettings
from sentinel.errors import SentinelError, UsageError
from sentinel.identity import ANSWERED
from sentinel.profile_store import APPLIED, Label, MemoryStore
from sentinel.redis_settings import RedisSettings
from sentinel.redis_store import RedisStore
from tests.redis.cases import (
    HOUR,
    NAME,
    Payment,
    pay,
    pay_in_memory,
    store_at,
    told,
    until,
)
from tests.redis.server import RedisServer, free_port

SECRET = "s3cret#/@:word"
QUOTED = "s3cret%23%2F%40%3Aword"


async def works(uri: str) -> None:
    async with store_at(uri) as store:
        await pay(store, Payment("t"))
        again = await pay(store, Payment("t"))
        assert again.verdicts.tolist() == [ANSWERED]
        assert await store.label([Label("t", True, 1)]) == [APPLIED]


def refused(uri: str) -> str:
    """What is said at the start."""

    async def story() -> None:
        async with store_at(uri, RedisSettings(patience=1.0)):
            pass

    with pytest.raises(SentinelError) as said:
        asyncio.run(story())
    return str(said.value)


def test_a_password_lets_in_and_is_never_told(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", SECRET, password=SECRET).start()
    place = f"127.0.0.1:{server.port}"
    try:
        asyncio.run(works(f"redis://:{QUOTED}@{place}"))
        asyncio.run(works(f"redis://default:{QUOTED}@{place}/3"))
        file = tmp_path / "password"
        file.write_text(f"{SECRET}\n")
        kept_apart = ProfileSettings(uri=f"redis://{place}/4", password_file=str(file))
        asyncio.run(works(kept_apart.redis_uri()))
        for uri in (
            f"redis://{place}",
            f"redis://:{QUOTED}x@{place}",
            f"redis://u:{QUOTED}@{place}",
        ):
            said = refused(uri)
            assert said.startswith(f"profiles on redis://{place}: ")
            assert "s3cret" not in said
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("redis://:s3cret#@host:6379", "percent-encoded"),
        ("redis://:s3c/ret@host:6379", "percent-encoded"),
        ("redis://:s3cret@host:port", "percent-encoded"),
        ("http://:s3cret@host", "not the address of a Redis server"),
        ("s3cret", "not the address of a Redis server"),
        ("redis://:s3cret@host?db=s3cret", "an option after '?'"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_telling_it(
    uri: str, expected: str
) -> None:
    with pytest.raises(UsageError) as said:
        RedisStore(uri, NAME)
    assert expected in str(said.value)
    assert "s3c" not in str(said.value)
    assert said.value.__cause__ is None
    assert said.value.__suppress_context__ or said.value.__context__ is None


def test_an_option_that_redis_py_does_not_know_is_named(server: RedisServer) -> None:
    assert "'colour' is no option" in refused(f"{server.uri}?colour=red")


def test_a_server_that_is_not_there_is_told_at_the_start() -> None:
    port = free_port()
    assert f"redis://127.0.0.1:{port}" in refused(f"redis://127.0.0.1:{port}")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed one for 127.0.0.1, and its key beside it."""
    file = tmp_path / "redis.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(file.with_suffix(".key")), "-out", str(file)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return file


def test_over_tls_the_server_must_show_a_certificate_that_is_trusted(
    tmp_path: Path, certificate: Path
) -> None:
    port = free_port()
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
    files = [
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        f"{certificate.with_suffix('.key')}",
    ]
    server = RedisServer(tmp_path, *options, *files, ssl=True, ssl_ca_certs=str(certificate))
    server.port = port
    server.start()
    try:
        asyncio.run(works(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"))
        assert "certificate verify failed" in refused(f"rediss://127.0.0.1:{port}").lower()
        assert refused(f"redis://127.0.0.1:{port}")
    finally:
        server.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three masters."""
    nodes = []
    for at in range(3):
        folder = tmp_path / str(at)
        folder.mkdir()
        nodes.append(RedisServer(folder, "--cluster-enabled", "yes", "--appendonly", "yes").start())
    places = [f"127.0.0.1:{node.port}" for node in nodes]
    command = ["redis-cli", "--cluster", "create", *places, "--cluster-yes"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + 30
        for node in nodes:
            with node.client() as client:
                while client.cluster("info")["cluster_state"] != "ok":
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def test_a_cluster_says_what_one_server_says_and_outlives_a_node(
    cluster: list[RedisServer],
) -> None:
    uri = f"redis+cluster://127.0.0.1:{cluster[0].port}"

    def rows(start: int) -> list[Payment]:
        return [
            Payment(f"t{n}", n * HOUR // 9, f"c{n % 7}", f"s{n % 5}")
            for n in range(start, start + 20)
        ]

    async def check_records(store: RedisStore, memory: MemoryStore) -> None:
        for entity, log in memory.profiles.logs.items():
            for key, records in log.items():
                assert told(await store.show(entity, key)) == told(records), (entity, key)

    async def story() -> None:
        memory = MemoryStore()
        async with store_at(uri) as store:
            await pay(store, *rows(0))
            pay_in_memory(memory, *rows(0))
            before = store.trips
            there, here = await pay(store, *rows(20)), pay_in_memory(memory, *rows(20))
            assert store.trips - before == 2
            np.testing.assert_array_equal(there.behaviour, here.behaviour)
            labels = [Label(f"t{n}", True, 1) for n in range(0, 40, 5)]
            assert await store.label(labels) == memory.label(labels)
            await check_records(store, memory)
            dumped = await store.dump()
            cluster[1].kill()
            flagged = await pay(store, *rows(40))
            pay_in_memory(memory, *rows(40))
            assert flagged.missing
            await asyncio.sleep(0.5)
            assert store.out
            cluster[1].start()
            await until(lambda: not store.out and not store.figures()["backlog"], 30)
            await check_records(store, memory)
            with cluster[2].client() as client:
                client.flushall()
            await store.load(dumped)
            assert len(await store.show("customer_id", "c3")) >= 5

    asyncio.run(story())
    sizes = []
    for node in cluster:
        with node.client() as client:
            sizes.append(client.dbsize())
    assert min(sizes) > 15, "keys spread over all nodes"


def test_a_slot_that_moves_is_followed(cluster: list[RedisServer]) -> None:
    async def story() -> None:
        async with store_at(f"redis+cluster://127.0.0.1:{cluster[0].port}") as store:
            await pay(store, Payment("t"))
            key = "sentinel:transactions:1:e:customer_id:anna"
            command = ["redis-cli", "-p", str(cluster[0].port), "cluster", "keyslot", key]
            slot = int(subprocess.run(command, check=True, capture_output=True).stdout)
            move_slot(cluster, slot)
            reception = await pay(store, Payment("u", HOUR))
            assert not reception.missing
            assert len(await store.show("customer_id", "anna")) == 2

    asyncio.run(story())


def move_slot(nodes: list[RedisServer], slot: int) -> None:
    """Gives a slot with all its keys to another master."""
    clients = [node.client() for node in nodes]
    try:
        names = [client.execute_command("CLUSTER MYID").decode() for client in clients]
        of = next(at for at, client in enumerate(clients) if holds(client, names[at], slot))
        to = (of + 1) % len(nodes)
        clients[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[of])
        clients[of].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[to])
        keys = clients[of].execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
        there = ("127.0.0.1", nodes[to].port)
        clients[of].execute_command("MIGRATE", *there, "", 0, 5000, "KEYS", *keys)
        for client in (clients[to], clients[of]):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[to])
    finally:
        for client in clients:
            client.close()


def holds(client: object, name: str, slot: int) -> bool:
    ranges = client.execute_command("CLUSTER SLOTS")  # type: ignore[attr-defined]
    return any(
        first <= slot <= last and master[2].decode() == name for first, last, master, *_ in ranges
    )
