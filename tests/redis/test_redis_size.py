"""What the documents say that things on Redis weigh."""

import asyncio
import re
from pathlib import Path

from tests.redis.cases import HOUR, Payment, pay, store_at
from tests.redis.server import RedisServer

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
EVENTS = 100


def stated(what: str) -> list[float]:
    """The numbers of a row of the table of sizes."""
    row = re.search(rf"^\| {what} \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    assert row is not None, what
    return [float(number) for number in re.findall(r"\d+", row[1])]


def test_keys_weigh_what_is_said(server: RedisServer) -> None:
    async def work() -> None:
        async with store_at(server.uri) as store:
            for number in range(EVENTS):
                await pay(store, Payment(f"transaction-{number:012d}", number * HOUR))

    asyncio.run(work())
    with server.client() as client:
        sizes: dict[str, list[int]] = {}
        for key in client.scan_iter(b"sentinel:transactions:1:?:*"):
            kind = key.split(b":")[3].decode()
            sizes.setdefault(kind, []).append(client.memory_usage(key) or 0)
    *_, low, high, at, most = stated("an entity")
    assert (at, most) == (EVENTS, 41)
    assert all(1000 * low <= size <= 1000 * high for size in sizes["e"])
    for kind, row in (
        ("c", "a transaction within `window`, with its answer"),
        ("t", "a transaction within `labels`"),
    ):
        (said,) = stated(row)
        assert len(sizes[kind]) == EVENTS
        assert 0.75 < sum(sizes[kind]) / EVENTS / said < 1.25
