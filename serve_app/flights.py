"""What a flight does: transactions that met in the queue, judged together by one bundle."""

import asyncio
import itertools
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.answers import each_json
from sentinel.coalescing import Coalescer, QueueLimits
from sentinel.errors import IdentityConflict, Overloaded
from sentinel.identity import CONFLICT, LEASE
from sentinel.load_report import LoadReport
from sentinel.parsing import Parsed
from sentinel.scoring import Decisions, join
from sentinel.transactions import Transactions, concatenate
from serve_app.future import FutureCheck
from serve_app.judging import Judging, Verdict
from serve_app.metrics import ANSWER, PARSE, RouterMetrics
from serve_app.served import ServedBundle

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
"""Seconds before a transaction whose twin is being judged is looked at again: first, and at most.
"""

TWIN_SECONDS = LEASE + 1
"""Longest wait for a twin: past its lease this one would have been judged itself."""


class _TwinInFlight(Exception):
    """The same transaction is being judged already."""


@dataclass(frozen=True, slots=True)
class _One:
    """A transaction as ``JsonParser.read`` gave it; its result is the answer as JSON."""

    served: ServedBundle
    row: msgspec.Struct
    caller: str

    @property
    def rows(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parsed transactions; their result is what became of them."""

    served: ServedBundle
    transactions: Transactions
    caller: str

    @property
    def rows(self) -> int:
        """Its place in the queue counts at least as one."""
        return max(1, len(self.transactions))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of n transactions: ``decisions`` on those at the positions ``rows`` (ascending),
    and the positions of ``conflicts``, whose id was used with other fields."""

    decisions: Decisions
    rows: NDArray[np.intp]
    conflicts: NDArray[np.intp]


_Work = _One | _Rows
_Result = bytes | Verdict


class Flights:
    """Judges whatever comes, together with whatever else has come."""

    def __init__(
        self,
        judging: Judging,
        limits: QueueLimits,
        metrics: RouterMetrics,
        future: FutureCheck,
        load: LoadReport,
    ) -> None:
        """``load`` is told of all that comes, waits and flies."""
        self._load = load
        self._batch_rows = 1
        self._judging = judging
        self._metrics = metrics
        self._future = future
        # A request of many rows enters the queue a part at a time, so that others come in between.
        self._part = max(1, limits.flight_rows // 2)
        self.queue: Coalescer[_Work, _Result] = Coalescer(
            self._fly, limits, on_flight=metrics.flight
        )

    def check(self, many: bool = False) -> None:
        """Whether there is room; what is refused counts as having arrived.

        ``many``: of a batch that is not read yet it is taken to have as many rows as the last one.

        :raises Overloaded: there is no room.
        """
        try:
            self.queue.check()
        except Overloaded:
            self._load.arrived(self._batch_rows if many else 1)
            raise

    def report(self) -> dict[str, float]:
        """What the autoscaling policy needs to know."""
        self._see()
        return self._load.all()

    def _see(self, landed: int = 0) -> None:
        """``landed``: rows that the queue still counts as flying."""
        self._load.queue(self.queue.waiting_rows, self.queue.flying_rows - landed)

    async def one(self, served: ServedBundle, row: msgspec.Struct, caller: str) -> bytes:
        """The answer to one transaction that ``served.json.read`` gave.

        Its columns are made when its flight sets off, all in one go: that takes a fraction of the
        time that each by itself would.

        :raises InvalidTransactions: a number or a time is out of range.
        :raises IdentityConflict: its id was used with other fields.
        :raises Overloaded: there is no room.
        """
        self._load.arrived(1)
        self.queue.check()
        async for _ in _Turns():
            try:
                coming = self.queue.submit(served, _One(served, row, caller), 1)
                self._see()
                answer = await coming
            except _TwinInFlight:
                continue
            assert isinstance(answer, bytes)
            return answer
        raise AssertionError("the turns end with an error")

    async def rows(
        self, served: ServedBundle, transactions: Transactions, caller: str, ahead: int = 1
    ) -> Outcome:
        """What becomes of n >= 0 transactions; up to ``ahead`` parts of them wait or fly at once,
        in their order.

        :raises Overloaded: there is no room; never in the middle of them.
        """
        self._batch_rows = max(1, len(transactions))
        self._load.arrived(len(transactions))
        self.queue.check()
        starts = range(0, max(1, len(transactions)), self._part)
        under_way: deque[asyncio.Task[Outcome]] = deque()
        found: list[Outcome] = []
        try:
            for start in starts:
                if len(under_way) == ahead:
                    found.append(await under_way[0])
                    under_way.popleft()
                part = transactions
                if len(transactions) > self._part:
                    part = transactions.take(slice(start, start + self._part))
                under_way.append(asyncio.ensure_future(self._part_of(served, part, caller)))
            found += [await task for task in under_way]
        finally:
            for task in under_way:  # of a caller that has gone
                task.cancel()
        return Outcome(
            join([part.decisions for part in found]),
            np.concatenate([part.rows + start for part, start in zip(found, starts, strict=True)]),
            np.concatenate(
                [part.conflicts + start for part, start in zip(found, starts, strict=True)]
            ),
        )

    async def _part_of(
        self, served: ServedBundle, transactions: Transactions, caller: str
    ) -> Outcome:
        decisions, rows, conflicts = [], [], []
        left = np.arange(len(transactions))
        async for _ in _Turns():
            some = transactions if len(left) == len(transactions) else transactions.take(left)
            coming = self.queue.submit(served, _Rows(served, some, caller), max(1, len(some)))
            self._see()
            verdict = await coming
            assert isinstance(verdict, Verdict)
            decisions.append(verdict.decisions)
            rows.append(left[verdict.decided])
            conflicts.append(left[verdict.codes == CONFLICT])
            left = left[verdict.waiting]
            if not len(left):
                break
        every, found = np.concatenate(rows), join(decisions)
        if len(rows) > 1:
            order = np.argsort(every)
            every, found = every[order], found.take(order)
        return Outcome(found, every, np.concatenate(conflicts))

    async def _fly(self, work: Sequence[_Work]) -> list[_Result | BaseException]:
        self._see()
        try:
            return await self._results(work)
        finally:
            rows = sum(item.rows for item in work)
            self._load.done(rows)
            self._see(landed=rows)

    async def _results(self, work: Sequence[_Work]) -> list[_Result | BaseException]:
        served = work[0].served
        start = time.perf_counter()
        ones = [item for item in work if isinstance(item, _One)]
        tables = [item for item in work if isinstance(item, _Rows)]
        read = served.json.together([item.row for item in ones])
        parsed = self._future(served, read)
        transactions = concatenate([parsed.transactions, *(item.transactions for item in tables)])
        callers = [ones[row].caller for row in parsed.rows.tolist()]
        callers += itertools.chain(*([item.caller] * len(item.transactions) for item in tables))
        self._metrics.stage(PARSE, time.perf_counter() - start)
        holder = secrets.randbits(62) + 1
        verdict = await self._judging.judge(served, transactions, callers, holder)
        start = time.perf_counter()
        answers = iter(self._answers(served, parsed, verdict, len(ones)))
        results: list[_Result | BaseException] = []
        row = len(parsed.transactions)
        for item in work:
            if isinstance(item, _One):
                results.append(next(answers))
            else:
                stop = row + len(item.transactions)
                results.append(verdict.rows(row, stop))
                row = stop
        self._metrics.stage(ANSWER, time.perf_counter() - start)
        return results

    def _answers(
        self, served: ServedBundle, parsed: Parsed, verdict: Verdict, count: int
    ) -> list[bytes | BaseException]:
        """What each of the ``count`` single transactions gets."""
        refused = parsed.errors_by_row()
        self._metrics.refused(len(refused))
        good = len(parsed.transactions)
        mine = verdict if good == len(verdict.codes) else verdict.rows(0, good)
        answers: list[bytes | BaseException] = list(each_json(mine.decisions))
        if len(answers) == count:  # as good as always
            return answers
        results: list[bytes | BaseException] = [_TwinInFlight()] * count
        for row, error in refused.items():
            results[row] = error
        for at in np.flatnonzero(mine.codes == CONFLICT).tolist():
            name = served.judge.description.id
            value = parsed.transactions.ids[at].as_py()
            results[int(parsed.rows[at])] = IdentityConflict(name, value)
        for at, answer in zip(mine.decided.tolist(), answers, strict=True):
            results[int(parsed.rows[at])] = answer
        return results


class _Turns:
    """Turns of a loop that waits for twins, with longer and longer pauses between.

    :raises Overloaded: they took too long.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = time.monotonic() + TWIN_SECONDS

    def __aiter__(self) -> "_Turns":
        return self

    async def __anext__(self) -> None:
        if self._pause:
            if time.monotonic() > self._until:
                raise Overloaded("twin", "the same transaction is still being judged")
            await asyncio.sleep(self._pause)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
