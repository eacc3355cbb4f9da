"""Bodies to answers: parse, score, answer. The same for whatever speaks HTTP around it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sentinel.answers import many_arrow, many_json, one_json
from sentinel.dataset import DatasetDescription
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.parsing import Parsed
from sentinel.scoring import Decisions
from sentinel.transactions import Transactions
from serve_app.bodies import check_arrow_size, check_json_size

INLINE_BYTES = 64 * 2**10
"""Longest body parsed and answered on the event loop (about a millisecond); a longer one goes to a
thread, so that single transactions need not wait behind it."""

Score = Callable[[Transactions], Awaitable[Decisions]]
Result = TypeVar("Result")


class Predictor:
    """Answers request bodies by the description of one bundle."""

    def __init__(self, description: DatasetDescription, score: Score) -> None:
        """``score`` decides on n >= 0 parsed transactions."""
        self._policy = description.policy
        self._json = JsonParser(description)
        self._arrow = ArrowParser(description)
        self._score = score

    async def one(self, body: bytes) -> bytes:
        """The answer to one transaction in JSON, as JSON.

        :raises MalformedInput: not JSON.
        :raises InvalidTransactions: not a transaction.
        """
        transactions = await _by_size(len(body), lambda: self._json.one(body))
        decisions = await self._score(transactions)
        return one_json(decisions, self._policy)

    async def many_json(self, body: bytes) -> bytes:
        """The answers to a JSON list, as JSON; a bad row is an error inside the answer.

        :raises MalformedInput: not JSON.
        :raises InvalidTransactions: no list.
        :raises Problem: too many rows.
        """
        return await self._many(body, self._parse_json, many_json)

    async def many_arrow(self, body: bytes) -> bytes:
        """The answers to an Arrow stream, as one with a row per input row.

        :raises MalformedInput: no Arrow stream.
        :raises InvalidTransactions: a column is missing or of the wrong type.
        :raises Problem: too many rows.
        """
        return await self._many(body, self._parse_arrow, many_arrow)

    async def _many(
        self,
        body: bytes,
        parse: Callable[[bytes], Parsed],
        answer: Callable[..., bytes],
    ) -> bytes:
        # Always in a thread: a body of 2 KB can hold 100,000 rows.
        parsed = await asyncio.to_thread(parse, body)
        decisions = await self._score(parsed.transactions)
        return await asyncio.to_thread(answer, decisions, self._policy, parsed)

    def _parse_json(self, body: bytes) -> Parsed:
        check_json_size(body)
        return self._json.many(body)

    def _parse_arrow(self, body: bytes) -> Parsed:
        check_arrow_size(body)
        return self._arrow.stream(body)


async def _by_size(size: int, work: Callable[[], Result]) -> Result:
    """The result of ``work`` on ``size`` bytes, done here or in a thread."""
    return work() if size <= INLINE_BYTES else await asyncio.to_thread(work)
