"""Requests that meet are scored together: what came while the last batch flew forms the next one.

A call to a model costs about a millisecond wherever the model stands, whether it carries one row or
a thousand. So work waits in a queue, and a *flight* takes all of it that fits. Nothing waits for a
timer: a flight sets off a few turns of the event loop after there is work and a flight is free. An
idle loop passes them in microseconds. In a busy one, a request needs several turns from its bytes
to this queue, and what is on its way there when a flight lands would just miss the next one. So
batches grow with the load by themselves.

Everything that can wait is bounded: rows and items in the queue by count, and the queue by the age
of its oldest item. What waits in the event loop before it comes to the queue cannot be counted; but
the turns before a flight take as long as a request's way to the queue does, so their time is added
to that age. Past a bound new work is refused at once (``Overloaded``), because an answer that comes
too late is worth nothing and costs the ones behind it.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sentinel.errors import Overloaded

TURNS = 8
"""Turns of the event loop before a flight sets off: at least as many as a request takes from the
socket to the queue (the server's task, Serve's, the body's). With 64 connections a flight carried
23 requests instead of 16 and the service answered a quarter more; 24 turns did no better."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The bounds of one coalescer."""

    flight_rows: int
    """Most rows of one flight; an item with more flies alone."""
    flight_items: int
    """Most items of one flight: each costs the event loop time of its own."""
    flights: int
    """Most flights under way at once. With two, one batch is prepared while the other is scored."""
    waiting_rows: int
    """Most rows in the queue."""
    waiting_items: int
    """Most items in the queue."""
    age: float
    """Seconds the oldest item may have waited, on its way to the queue and in it, when another asks
    to join."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    key: Hashable
    item: Item
    rows: int
    since: float
    result: "asyncio.Future[Result]"


class Coalescer(Generic[Item, Result]):
    """Groups items into flights. Belongs to the event loop that it is first used on."""

    def __init__(
        self,
        fly: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        limits: QueueLimits,
        clock: Callable[[], float] = time.monotonic,
        on_flight: Callable[[int, float], object] | None = None,
    ) -> None:
        """``fly`` answers the items of one flight, a result or an error each, in their order.

        ``on_flight`` is told of each one's rows and of the seconds its oldest item has waited.
        """
        self._fly = fly
        self._limits = limits
        self._clock = clock
        self._on_flight = on_flight
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._starting = False
        self._starting_since = self._last_turns = 0.0
        self.lag = 0.0
        """Seconds that the turns before a flight take: the lesser of the last two, since one pause
        of the process, to load a bundle say, is no load."""
        self.waiting_rows = 0
        """Rows in the queue."""
        self.flying_rows = 0
        """Rows of the flights under way."""

    @property
    def age(self) -> float:
        """Seconds the oldest item has waited; 0 when nothing waits."""
        return self._clock() - self._queue[0].since if self._queue else 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing flies."""
        return not self._queue and not self._flights

    def check(self) -> None:
        """Whether there is room; asked before work is done on what would be refused after it.

        :raises Overloaded: a bound is reached; names it.
        """
        limits = self._limits
        if self.waiting_rows >= limits.waiting_rows:
            raise Overloaded("rows", f"{self.waiting_rows:,} rows wait already")
        if len(self._queue) >= limits.waiting_items:
            raise Overloaded("requests", f"{len(self._queue):,} requests wait already")
        if self._queue and (waited := self.age + self.lag) > limits.age:
            raise Overloaded("age", f"the oldest request has waited {1000 * waited:.0f} ms")

    def submit(self, key: Hashable, item: Item, rows: int) -> "asyncio.Future[Result]":
        """Puts an item of ``rows`` rows into the queue; the future gets its result.

        Only items of equal ``key`` share a flight. An item whose future is cancelled before its
        flight starts is dropped. Bounds are not looked at: see ``check``.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(key, item, rows, self._clock(), result))
        self.waiting_rows += rows
        self._start_soon()
        return result

    def _start_soon(self) -> None:
        if self._starting or len(self._flights) >= self._limits.flights:
            return
        self._starting, self._starting_since = True, self._clock()
        self._after(TURNS)

    def _after(self, turns: int) -> None:
        # In an empty context: a flight belongs to none of the requests in it, and must not be
        # ended with the one that happened to start it.
        nothing = contextvars.Context()
        if turns:
            asyncio.get_running_loop().call_soon(self._after, turns - 1, context=nothing)
        else:
            self._start()

    def _start(self) -> None:
        took = self._clock() - self._starting_since
        self._starting, self.lag, self._last_turns = False, min(took, self._last_turns), took
        aboard = self._board()
        if not aboard:
            return
        flight = asyncio.get_running_loop().create_task(self._run(aboard))
        self._flights.add(flight)
        flight.add_done_callback(self._land)
        if self._queue:
            self._start_soon()

    def _board(self) -> list[_Waiting[Item, Result]]:
        """Takes from the head of the queue what fits into one flight."""
        limits, queue = self._limits, self._queue
        aboard: list[_Waiting[Item, Result]] = []
        rows = 0
        while queue and len(aboard) < limits.flight_items:
            head = queue[0]
            if head.result.done():  # the client has gone
                queue.popleft()
                self.waiting_rows -= head.rows
                continue
            full = rows + head.rows > limits.flight_rows
            if aboard and (full or head.key != aboard[0].key):
                break
            queue.popleft()
            self.waiting_rows -= head.rows
            rows += head.rows
            aboard.append(head)
        self.flying_rows += rows
        return aboard

    async def _run(self, aboard: list[_Waiting[Item, Result]]) -> None:
        rows = sum(waiting.rows for waiting in aboard)
        results: Sequence[Result | BaseException] = ()
        try:
            if self._on_flight is not None:
                self._on_flight(rows, self._clock() - aboard[0].since)
            results = await self._fly([waiting.item for waiting in aboard])
            if len(results) != len(aboard):
                raise ValueError(f"{len(aboard)} items flew and {len(results)} results came back")
        except BaseException as error:
            results = [error] * len(aboard)
            if not isinstance(error, Exception):
                raise
        finally:
            self.flying_rows -= rows
            for waiting, result in zip(aboard, results, strict=True):
                _settle(waiting.result, result)

    def _land(self, flight: "asyncio.Task[None]") -> None:
        self._flights.discard(flight)
        if self._queue:
            self._start_soon()
        elif not self._flights:
            self.lag = self._last_turns = 0.0  # of a load that is over


def _settle(future: "asyncio.Future[Result]", result: Result | BaseException) -> None:
    if future.done():  # cancelled while it flew
        return
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
