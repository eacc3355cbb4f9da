"""Far more at once than there is room for: the rest is refused, and may be sent again."""

import asyncio
import os
import resource
import signal
import time
from pathlib import Path

import msgspec
import psutil

from serve_app.haproxy import AT_ONCE, WAITING
from tests.serve.load import Connection, row_of
from tests.serve.serving import Served

ROOM = AT_ONCE + WAITING
AT_THE_SAME_TIME = 5 * ROOM
STILL = 4.0
"""Seconds that the router stands still at most: past five HAProxy gives up what waits."""

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


def _configs(served: Served) -> list[str]:
    """What each HAProxy of the service runs by."""
    commands = [psutil.Process(pid).cmdline() for pid in served.family()]
    running = [command for command in commands if command and command[0].endswith("/haproxy")]
    return [Path(command[command.index("-f") + 1]).read_text() for command in running]


def _wait_until_bounded(served: Served) -> None:
    """HAProxy hears of a router a moment after the router is ready."""
    deadline = time.monotonic() + 30
    while not (configs := _configs(served)) or not all(f"maxconn {AT_ONCE}" in c for c in configs):
        assert time.monotonic() < deadline, configs
        time.sleep(0.1)


async def _to_a_router_that_stands_still(served: Served) -> tuple[list[Answer], list[Answer]]:
    """What was answered while the router stood still, and all answers."""
    connections = [Connection(served) for _ in range(AT_THE_SAME_TIME)]
    (router,) = served.replicas("FraudRouter")
    os.kill(router, signal.SIGSTOP)
    try:
        posts = [
            asyncio.create_task(connection.post(msgspec.json.encode(row_of(n, "still"))))
            for n, connection in enumerate(connections)
        ]
        deadline = time.monotonic() + STILL
        while sum(post.done() for post in posts) < AT_THE_SAME_TIME - ROOM:
            assert time.monotonic() < deadline, sum(post.done() for post in posts)
            await asyncio.sleep(0.01)
        meanwhile = [post.result() for post in posts if post.done()]
    finally:
        os.kill(router, signal.SIGCONT)
    answers = await asyncio.gather(*posts)
    for connection in connections:
        connection.close()
    return meanwhile, answers


def test_what_there_is_no_room_for_never_comes_to_the_router(one_of_each: Served) -> None:
    _wait_until_bounded(one_of_each)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * AT_THE_SAME_TIME), most))
    meanwhile, answers = asyncio.run(_to_a_router_that_stands_still(one_of_each))

    # The router answers nothing meanwhile, so all of these are HAProxy's.
    assert len(meanwhile) == AT_THE_SAME_TIME - ROOM
    for status, headers, body in meanwhile:
        assert (status, headers[b"retry-after"]) == (503, b"1")
        assert headers[b"content-type"] == b"application/problem+json"
        assert msgspec.json.decode(body)["bound"] == "haproxy"
    assert {status for status, _, _ in answers} == {200, 503}
