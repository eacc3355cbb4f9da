"""Clients that never stop asking, in the background, and what each was told."""

import asyncio
import resource
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.serve.serving import Row, Served


@dataclass
class Told:
    """One transaction and its answer; ``tries`` failed before it came, each for a reason."""

    row: Row
    answer: dict[str, Any] | None = None
    tries: list[str] = field(default_factory=list)


def row_of(number: int, tag: str = "t") -> Row:
    """A transaction like no other of the same tag."""
    return {
        "transaction_id": f"{tag}{number}",
        "timestamp": f"2018-08-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:00Z",
        "customer_id": str(number % 977),
        "terminal_id": str(number % 313),
        "amount": round(0.37 * (number % 4001), 2),
    }


class Connection:
    """One kept connection, opened again when it breaks. (httpx takes a millisecond a request and
    scans its pool for each: ten thousand of them would measure the client.)"""

    def __init__(self, served: Served) -> None:
        self._port = served.client.base_url.port or 0
        key = served.client.headers.get("authorization")
        self._head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        if key:
            self._head += f"authorization: {key}\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the answer.

        :raises ConnectionError: it broke, before or during the answer.
        """
        try:
            async with asyncio.timeout(60):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(self._head + b"content-length: %d\r\n\r\n" % len(body) + body)
                status = (await reader.readline()).split()
                headers = dict([line async for line in _headers(reader)])
                if b"content-length" in headers:
                    content = await reader.readexactly(int(headers[b"content-length"]))
                else:  # HAProxy's own errors end with the connection
                    content = await reader.read()
                if headers.get(b"connection") == b"close" or b"content-length" not in headers:
                    self.close()
                return int(status[1]), headers, content
        except (OSError, IndexError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError("connection closed") from error

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def _headers(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    while line := (await reader.readline()).strip():
        name, _, value = line.partition(b":")
        yield name.lower(), value.strip()


async def tell(connection: Connection, row: Row) -> Told:
    """Posts a transaction until it is answered, as a payment service would: what cannot be had now
    (503, a bare 5xx of HAProxy, a broken connection) is asked again with the same id."""
    told, body = Told(row), msgspec.json.encode(row)
    while len(told.tries) < 50:
        try:
            status, headers, content = await connection.post(body)
        except ConnectionError as error:
            told.tries.append(str(error))
            continue
        if status == 200:
            told.answer = msgspec.json.decode(content)
            return told
        told.tries.append(_reason(status, content))
        if status < 500:
            break
        await asyncio.sleep(float(headers.get(b"retry-after", b"0.1")))
    return told


def _reason(status: int, content: bytes) -> str:
    """A problem by its kind, anything else by its first words."""
    try:
        return f"{status} {msgspec.json.decode(content)['type'].rsplit(':', 1)[1]}"
    except (msgspec.DecodeError, TypeError, LookupError):
        return f"{status} {content[:40].decode('latin-1').strip()}"


class Load:
    """What a load has been told so far."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def wait_for(self, what: Callable[[Told], bool], count: int = 1, seconds: float = 60) -> None:
        """Until so many of the answers from now on are like that."""
        start, deadline = len(self.told), time.monotonic() + seconds
        while sum(map(what, self.told[start:])) < count:
            assert time.monotonic() < deadline, self.summary()
            time.sleep(0.05)

    def summary(self) -> dict[str, int]:
        """How many answers of each kind there were, and how many tries failed for each reason."""
        found: Counter[str] = Counter(kind(told) for told in self.told)
        found.update(reason for told in self.told for reason in told.tries)
        return dict(found)


def kind(told: Told) -> str:
    """``ok``, ``degraded`` or ``unanswered``."""
    if told.answer is None:
        return "unanswered"
    return "degraded" if told.answer["degraded"] else "ok"


@contextmanager
def under_load(served: Served, clients: int = 16, tag: str = "t") -> Iterator[Load]:
    """So many clients ask, one transaction after the other, while the block runs."""
    load, stop = Load(), threading.Event()

    async def ask() -> None:
        numbers = iter(range(10**9))

        async def one() -> None:
            connection = Connection(served)
            while not stop.is_set():
                load.told.append(await tell(connection, row_of(next(numbers), tag)))
            connection.close()

        await asyncio.gather(*(one() for _ in range(clients)))

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    try:
        load.wait_for(lambda _: True, count=clients)
        yield load
    finally:
        stop.set()
        thread.join()


def ask_all(served: Served, rows: list[Row], connections: int) -> list[Told]:
    """All of these, so many of them at once, each over a connection of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * connections + 1_000), most))

    told: list[Told | None] = [None] * len(rows)

    async def ask() -> None:
        waiting = iter(enumerate(rows))

        async def one() -> None:
            connection = Connection(served)
            for at, row in waiting:
                told[at] = await tell(connection, row)
            connection.close()

        await asyncio.gather(*(one() for _ in range(connections)))

    asyncio.run(ask())
    return [one for one in told if one is not None]
