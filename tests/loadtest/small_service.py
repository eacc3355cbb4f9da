"""A small real service on loopback: the product's API in one thread, well-behaved or not."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import pyarrow as pa
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sentinel.answers import ARROW, each_json, many_arrow, many_json
from sentinel.bundle import open_bundle
from sentinel.dataset import DatasetDescription
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline

START_SECONDS = 20.0

Answer = Callable[[Request, bytes], Awaitable[Response]]
"""The answer to a request to one of the predict routes, and its body."""


@dataclass
class SmallService:
    """What came to it so far; ``url`` is where it answers."""

    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@contextmanager
def served(description: DatasetDescription, answer: Answer) -> Iterator[SmallService]:
    """The service while the block runs."""
    seen = SmallService()
    manifest = {"description": description.model_dump(mode="json", exclude={"policy"})}

    async def model(request: Request) -> Response:
        seen.keys.add(request.headers.get("authorization"))
        return JSONResponse({"model_version": "5e" * 32, "refused": [], **manifest})

    async def predict(request: Request) -> Response:
        seen.requests[request.url.path + " " + request.headers["content-type"]] += 1
        seen.keys.add(request.headers.get("authorization"))
        body = await request.body()
        seen.ids.extend(ids_of(description, request, body))
        return await answer(request, body)

    routes = [Route("/model", model)]
    routes += [Route(path, predict, methods=["POST"]) for path in ("/predict", "/predict/batch")]
    config = uvicorn.Config(
        Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(int(START_SECONDS / 0.02)):
            if server.started:
                break
            threading.Event().wait(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        seen.url = f"http://127.0.0.1:{port}"
        yield seen
    finally:
        server.should_exit = server.force_exit = True
        thread.join(START_SECONDS)


def ids_of(description: DatasetDescription, request: Request, body: bytes) -> list[str]:
    """The transaction ids in a body, in order."""
    if request.headers["content-type"] == ARROW:
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all().column(description.id).to_pylist()
    rows = msgspec.json.decode(body)
    return [row[description.id] for row in (rows if isinstance(rows, list) else [rows])]


def by_bundle(uri: str) -> tuple[DatasetDescription, Answer]:
    """A real bundle's description, and its answers by the product's own code."""
    bundle = open_bundle(uri)
    judge, lanes = bundle.judge(), bundle.lanes()
    as_json, as_arrow = JsonParser(judge.description), ArrowParser(judge.description)

    async def answer(request: Request, body: bytes) -> Response:
        if request.url.path == "/predict":
            decisions = score_offline(judge, lanes, as_json.one(body))
            return Response(each_json(decisions)[0], media_type="application/json")
        arrow = request.headers["content-type"] == ARROW
        parsed = as_arrow.stream(body) if arrow else as_json.many(body)
        decisions = score_offline(judge, lanes, parsed.transactions)
        write = many_arrow if arrow else many_json
        return Response(write(decisions, parsed))

    return judge.description, answer


def canned(description: DatasetDescription, **other: Any) -> Answer:
    """Approves all that comes; ``other`` replaces fields of each answer."""

    async def answer(request: Request, body: bytes) -> Response:
        approved = {"decision": "approve", "degraded": False}
        ids = ids_of(description, request, body)
        results = [{"transaction_id": name, **approved, **other} for name in ids]
        if request.url.path == "/predict":
            return JSONResponse(results[0])
        if request.headers["content-type"] != ARROW:
            return JSONResponse({"results": results, "errors": []})
        table = pa.Table.from_pylist(results).append_column("error", pa.nulls(len(ids)))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return Response(sink.getvalue().to_pybytes())

    return answer


def every(nth: int, other: Answer, usual: Answer) -> Answer:
    """Each ``nth`` request is answered by ``other``."""
    numbers = count(1)

    async def answer(request: Request, body: bytes) -> Response:
        chosen = usual if next(numbers) % nth else other
        return await chosen(request, body)

    return answer


def after(seconds: float, usual: Answer) -> Answer:
    """The usual answers, late."""

    async def answer(request: Request, body: bytes) -> Response:
        await asyncio.sleep(seconds)
        return await usual(request, body)

    return answer


async def shed(request: Request, body: bytes) -> Response:
    """What a service says that takes no more work."""
    problem = {"title": "Overloaded", "detail": "no room for more work: rows"}
    return JSONResponse(problem, 503, {"retry-after": "1"}, "application/problem+json")
