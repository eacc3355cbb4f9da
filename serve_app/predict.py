"""Bodies to answers: read, parse, score, answer. The same for whatever speaks HTTP around it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from starlette.types import Receive

from sentinel.answers import ARROW, JSON, each_json, many_arrow, many_json
from sentinel.errors import IdentityConflict, InvalidTransactions
from sentinel.parsing import Parsed
from sentinel.transactions import Transactions
from serve_app.bodies import (
    MAX_BATCH_BODY,
    MAX_BODY,
    BodyBudget,
    Headers,
    check_arrow_size,
    check_json_size,
    media_type,
)
from serve_app.flights import Flights, Outcome
from serve_app.future import FutureCheck
from serve_app.metrics import RouterMetrics
from serve_app.served import ServedBundle

INLINE_BYTES = 2 * 2**10
"""Longest body that is read on the event loop if it is not plain (fields to ignore, an error to
name): up to a millisecond. A longer one goes to a thread, or others would wait for it."""

THREADS = 2
"""Bodies parsed or answered at once in threads: more would only take turns."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, and what it is."""

    media_type: str
    body: bytes


class Predictor:
    """Answers the two predict routes by whichever bundle is served."""

    def __init__(
        self,
        flights: Flights,
        bodies: BodyBudget,
        metrics: RouterMetrics,
        served: Callable[[], ServedBundle],
        future: FutureCheck,
    ) -> None:
        """``served`` gives what is current; a request keeps what it began with."""
        self._future = future
        self._flights = flights
        self._bodies = bodies
        self._metrics = metrics
        self._served = served
        self._threads = ThreadPoolExecutor(THREADS, "bodies")

    async def one(self, headers: Headers, receive: Receive, caller: str) -> Answer:
        """The answer to one transaction of ``caller``, whose ids are its own.

        :raises Problem: 408, 413, 415.
        :raises Overloaded: there is no room.
        :raises MalformedInput: not JSON.
        :raises InvalidTransactions: not a transaction.
        :raises IdentityConflict: its id was used with other fields.
        """
        media_type(headers, JSON)
        self._flights.check()
        async with self._bodies.body(headers, receive, MAX_BODY) as body:
            served = self._served()
            row = served.json.read(body)
            if row is not None:
                return Answer(JSON, await self._flights.one(served, row, caller))
            if len(body) <= INLINE_BYTES:
                transactions = self._checked(served, body)
            else:
                transactions = await self._in_thread(lambda: self._checked(served, body))
            outcome = await self._flights.rows(served, transactions, caller)
            if len(outcome.conflicts):
                name = served.judge.description.id
                raise IdentityConflict(name, transactions.ids[0].as_py())
            return Answer(JSON, each_json(outcome.decisions)[0])

    def _checked(self, served: ServedBundle, body: bytes) -> Transactions:
        try:
            return self._future(served, served.json.parsed_one(body)).all_or_raise()
        except InvalidTransactions:
            self._metrics.refused(1)
            raise

    async def many(self, headers: Headers, receive: Receive, caller: str) -> Answer:
        """The answers to a JSON list or an Arrow stream; a bad row is an error inside the answer.

        :raises Problem: as ``one``.
        :raises Overloaded: as ``one``.
        :raises MalformedInput: not what its media type says.
        :raises InvalidTransactions: no list, or a column is missing or of the wrong type.
        """
        kind = media_type(headers, JSON, ARROW)
        self._flights.check(many=True)
        async with self._bodies.body(headers, receive, MAX_BATCH_BODY) as body:
            served = self._served()
            parse, write = _ARROW_BATCH if kind == ARROW else _JSON_BATCH
            parsed = await self._in_thread(lambda: self._future(served, parse(served, body)))
            self._metrics.refused(parsed.count - len(parsed.transactions))
            outcome = await self._flights.rows(served, parsed.transactions, caller)
            decided = _without_conflicts(parsed, outcome, served.judge.description.id)
            return Answer(kind, await self._in_thread(lambda: write(outcome.decisions, decided)))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # Even a body of 2 KB can hold 100,000 rows.
        running = self._threads.submit(work)
        result = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            # The client has gone. What has begun cannot be stopped: until it ends, its body counts
            # as held.
            if not running.cancel():
                await asyncio.wait([result])
            raise


def _without_conflicts(parsed: Parsed, outcome: Outcome, name: str) -> Parsed:
    """What was parsed, less the rows whose id was used with other fields: each is an error."""
    if not len(outcome.conflicts):
        return parsed
    refused = np.zeros(len(parsed.transactions), np.bool_)
    refused[outcome.conflicts] = True
    ids = parsed.transactions.ids.take(pa.array(outcome.conflicts)).to_pylist()
    return parsed.refuse(refused, name, ids, IdentityConflict.expected)


def _parse_json(served: ServedBundle, body: bytes) -> Parsed:
    check_json_size(body)
    return served.json.many(body)


def _parse_arrow(served: ServedBundle, body: bytes) -> Parsed:
    check_arrow_size(body)
    return served.arrow.stream(body)


_JSON_BATCH = (_parse_json, many_json)
_ARROW_BATCH = (_parse_arrow, many_arrow)
