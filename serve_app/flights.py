"""What a flight does: transactions that met in the queue, scored together by one bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from sentinel.answers import each_json
from sentinel.coalescing import Coalescer, QueueLimits
from sentinel.decision import DECISIONS
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Decisions, Lanes, Scores, join
from sentinel.transactions import Transactions, concatenate
from serve_app.metrics import ANSWER, DECIDE, FEATURES, PARSE, RouterMetrics
from serve_app.served import ServedBundle


@dataclass(frozen=True, slots=True)
class _One:
    """A transaction as ``JsonParser.read`` gave it; its result is the answer as JSON."""

    served: ServedBundle
    row: msgspec.Struct


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parsed transactions; their result is the decisions on them."""

    served: ServedBundle
    transactions: Transactions


_Work = _One | _Rows
_Result = bytes | Decisions


class Flights:
    """Scores whatever comes, together with whatever else has come."""

    def __init__(self, lanes: Lanes, limits: QueueLimits, metrics: RouterMetrics) -> None:
        self._lanes = lanes
        self._metrics = metrics
        # A request of many rows enters the queue a part at a time, so that others come in between.
        self._part = max(1, limits.flight_rows // 2)
        self.queue: Coalescer[_Work, _Result] = Coalescer(
            self._fly, limits, on_flight=metrics.flight
        )

    async def one(self, served: ServedBundle, row: msgspec.Struct) -> bytes:
        """The answer to one transaction that ``served.json.read`` gave.

        Its columns are made when its flight sets off, all in one go: that takes a fraction of the
        time that each by itself would.

        :raises InvalidTransactions: a number or a time is out of range.
        :raises Overloaded: there is no room.
        """
        self.queue.check()
        answer = await self.queue.submit(served, _One(served, row), 1)
        assert isinstance(answer, bytes)
        return answer

    async def rows(self, served: ServedBundle, transactions: Transactions) -> Decisions:
        """The decisions on n >= 0 transactions.

        :raises Overloaded: there is no room; never in the middle of them.
        """
        self.queue.check()
        parts = []
        for start in range(0, max(1, len(transactions)), self._part):
            part = transactions
            if len(transactions) > self._part:
                part = transactions.take(slice(start, start + self._part))
            decisions = await self.queue.submit(served, _Rows(served, part), max(1, len(part)))
            assert isinstance(decisions, Decisions)
            parts.append(decisions)
        return join(parts)

    async def _fly(self, work: Sequence[_Work]) -> list[_Result | BaseException]:
        served = work[0].served
        start = time.perf_counter()
        parsed = served.json.together([item.row for item in work if isinstance(item, _One)])
        refused = parsed.errors_by_row()
        tables = [item.transactions for item in work if isinstance(item, _Rows)]
        transactions = concatenate([parsed.transactions, *tables])
        parse_end = self._passed(PARSE, start)
        features = served.judge.features(transactions)
        self._passed(FEATURES, parse_end)
        scores = await self._scores(features, served.digest)
        start = time.perf_counter()
        decisions = served.judge.decide(transactions, scores)
        start = self._passed(DECIDE, start)
        good = len(parsed.transactions)
        answers = iter(each_json(decisions.rows(0, good), served.manifest.policy))
        results: list[_Result | BaseException] = []
        one, row = 0, good
        for item in work:
            if isinstance(item, _One):
                results.append(refused[one] if one in refused else next(answers))
                one += 1
            else:
                stop = row + len(item.transactions)
                results.append(decisions.rows(row, stop))
                row = stop
        self._passed(ANSWER, start)
        self._count(decisions, scores)
        self._metrics.refused(len(refused))
        return results

    async def _scores(
        self, features: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", digest: str
    ) -> Scores:
        if not len(features):  # every body was refused: nothing to ask
            return Scores(np.empty(0), np.empty(0))
        return await self._lanes(features, digest)

    def _passed(self, stage: str, start: float) -> float:
        now = time.perf_counter()
        self._metrics.stage(stage, now - start)
        return now

    def _count(self, decisions: Decisions, scores: Scores) -> None:
        rows = len(decisions)
        self._metrics.scored(rows)
        for code, count in enumerate(np.bincount(decisions.decision, minlength=len(DECISIONS))):
            self._metrics.decided(DECISIONS[code], int(count))
        for lane, missing in ((FRAUD_LANE, scores.fraud), (NOVELTY_LANE, scores.anomaly)):
            if missing is None:
                self._metrics.degraded(lane, rows)
