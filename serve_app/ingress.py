"""The ASGI app of a router: keys, the two predict routes, and FastAPI for everything else.

The predict routes are asked thousands of times a second, and a request through FastAPI costs
several times what scoring it does, so this answers them itself. The OpenAPI document describes
them all the same (``openapi.PREDICT_PATHS``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from sentinel.errors import IdentityConflict, InvalidTransactions, MalformedInput, Overloaded
from serve_app import problems
from serve_app.bodies import Headers
from serve_app.keys import ApiKeys
from serve_app.keys import Scope as KeyScope
from serve_app.metrics import RouterMetrics
from serve_app.predict import Answer, Predictor
from serve_app.problems import PROBLEM_JSON, Problem

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

PIECE = 256 * 2**10
"""Bytes of an answer that are handed over at once."""

HTTP = "http:"
"""Before the name of an API key in a caller's name; without keys there is one caller."""

_OPEN = ("/health", "/ready")
"""What asks for no key: probes have none."""

_SCOPES: dict[str, KeyScope] = {"/predict": "score", "/predict/batch": "score", "/labels": "label"}
"""The scope that a route asks for; every other route asks for ``read``."""


class Ingress:
    """Everything that HTTP reaches."""

    def __init__(
        self,
        predictor: Predictor,
        metrics: RouterMetrics,
        keys: ApiKeys | None,
        rest: Callable[[], ASGIApp],
    ) -> None:
        """``keys``: ``None`` asks nobody. ``rest`` gives the FastAPI app of the current bundle."""
        self._metrics = metrics
        self._keys = keys
        self._rest = rest
        self._routes = {"/predict": predictor.one, "/predict/batch": predictor.many}
        self._under_way = 0
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        route = self._routes.get(path)
        if route is not None and scope["type"] == "http":
            self._under_way += 1
            try:
                await self._predict(path, route, scope, receive, send)
            finally:
                self._under_way -= 1
            return
        if self._keys is not None and scope["type"] == "http" and path not in _OPEN:
            try:
                self._keys.require(dict(scope["headers"]), _SCOPES.get(path, "read"))
            except Problem as problem:
                await _send(send, problem.status, PROBLEM_JSON, problem.body(), problem.headers)
                return
        await self._rest()(scope, receive, send)

    async def drain(self, patience: float) -> bool:
        """Refuses new predictions from now on, and waits for those under way to be answered.

        Whether they all were, within ``patience`` seconds.
        """
        self._stopping = True
        try:
            async with asyncio.timeout(patience):
                while self._under_way:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    async def _predict(
        self,
        path: str,
        route: Callable[[Headers, Receive, str], Awaitable[Answer]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        extra: dict[str, str] = {}
        try:
            headers = dict(scope["headers"])
            caller = self._admit(scope["method"], headers)
            answer = await route(headers, receive, caller)
            status, kind, body = 200, answer.media_type, answer.body
        except Exception as error:
            problem = self._problem(error)
            status, kind, body, extra = (
                problem.status,
                PROBLEM_JSON,
                problem.body(),
                problem.headers,
            )
        self._metrics.answered(path, status)
        await _send(send, status, kind, body, extra)

    def _admit(self, method: str, headers: Headers) -> str:
        """Who asks: the same ``transaction_id`` of another caller is another transaction."""
        if method != "POST":
            detail = f"{method} is not for this route; expected POST"
            raise Problem(405, "method-not-allowed", detail, headers={"allow": "POST"})
        name = "" if self._keys is None else self._keys.require(headers, "score")
        if self._stopping:
            again = {"retry-after": "1", "connection": "close"}
            raise Problem(503, "stopping", "this router answers what it has", headers=again)
        return f"{HTTP}{name}"

    def _problem(self, error: Exception) -> Problem:
        match error:
            case Problem():
                return error
            case MalformedInput():
                return problems.malformed(error)
            case InvalidTransactions():
                return problems.invalid(error)
            case IdentityConflict():
                return problems.conflict(error)
            case Overloaded():
                self._metrics.shed(error.bound)
                return problems.overloaded(error)
            case _:
                # It goes to the log, with its trace; the client learns only that it was not him.
                logger.error("a request failed", exc_info=error)
                return problems.internal()


async def _send(send: Send, status: int, kind: str, body: bytes, extra: dict[str, str]) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in extra.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if len(body) > PIECE:
        # As fast as it is taken: what counts as answered has then left this process.
        last = (len(body) - 1) // PIECE * PIECE
        for start in range(0, last, PIECE):
            piece = body[start : start + PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        body = body[last:]
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Serve asks every app whether it has started; there is nothing to do."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
