"""Far more at once than there is room for: the rest is refused, and may be sent again."""

import asyncio
import resource

import msgspec
import psutil

from serve_app.haproxy import AT_ONCE, WAITING
from tests.serve.load import Connection, row_of
from tests.serve.serving import Served

AT_THE_SAME_TIME = 5 * (AT_ONCE + WAITING)

Answer = tuple[int, dict[bytes, bytes], bytes]


async def _at_once(served: Served) -> list[Answer]:
    """What each of many that ask at the same time is answered."""
    connections = [Connection(served) for _ in range(AT_THE_SAME_TIME)]
    posts = [
        connection.post(msgspec.json.encode(row_of(n, "overload")))
        for n, connection in enumerate(connections)
    ]
    answers = await asyncio.gather(*posts)
    for connection in connections:
        connection.close()
    return answers


def test_a_burst_is_answered_or_refused_and_what_was_refused_may_be_sent_again(
    served: Served,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * AT_THE_SAME_TIME), most))
    answers = asyncio.run(_at_once(served))

    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= AT_ONCE
    for status, headers, body in answers:
        if status == 503:
            assert headers[b"retry-after"] == b"1"
            assert headers[b"content-type"] == b"application/problem+json"
            assert msgspec.json.decode(body)["type"].endswith(":overloaded")
    again = served.predict_batch([row_of(n, "overload") for n in range(AT_THE_SAME_TIME)])
    assert len(again["results"]) == AT_THE_SAME_TIME


def test_serve_runs_haproxy_with_this_products_bounds(served: Served) -> None:
    commands = [psutil.Process(pid).cmdline() for pid in served.family()]
    running = [command for command in commands if command and command[0].endswith("/haproxy")]
    assert running
    for command in running:
        path = command[command.index("-f") + 1]
        with open(path, encoding="utf-8") as file:
            assert f"maxconn {AT_ONCE}" in file.read()
