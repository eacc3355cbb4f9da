"""What a flight does: single bodies and parsed rows that met in the queue, scored by one bundle."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentinel.answers import each_json
from sentinel.coalescing import Coalescer, QueueLimits
from sentinel.decision import DECISIONS
from sentinel.errors import SentinelError
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Decisions, Lanes, Scores, join
from sentinel.transactions import Transactions, concatenate
from serve_app.metrics import ANSWER, DECIDE, FEATURES, PARSE, RouterMetrics
from serve_app.served import ServedBundle


@dataclass(frozen=True, slots=True)
class _Body:
    """A body that should hold one transaction; its result is the answer as JSON."""

    served: ServedBundle
    body: bytes


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parsed transactions; their result is the decisions on them."""

    served: ServedBundle
    transactions: Transactions


_Work = _Body | _Rows
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

    async def body(self, served: ServedBundle, body: bytes) -> bytes:
        """The answer to the one transaction in this body.

        Bodies are parsed when their flight sets off, all in one go: that takes a fraction of the
        time that parsing each by itself would.

        :raises MalformedInput: not JSON.
        :raises InvalidTransactions: not a transaction of this bundle.
        """
        answer = await self.queue.submit(served, _Body(served, body), 1)
        assert isinstance(answer, bytes)
        return answer

    async def rows(self, served: ServedBundle, transactions: Transactions) -> Decisions:
        """The decisions on n >= 0 transactions."""
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
        bodies = [item.body for item in work if isinstance(item, _Body)]
        start = time.perf_counter()
        parsed, malformed = served.json.each(bodies)
        refused: dict[int, SentinelError] = {**malformed, **parsed.errors_by_row()}
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
        body, row = 0, good
        for item in work:
            if isinstance(item, _Body):
                results.append(refused[body] if body in refused else next(answers))
                body += 1
            else:
                stop = row + len(item.transactions)
                results.append(decisions.rows(row, stop))
                row = stop
        self._passed(ANSWER, start)
        self._count(decisions, scores)
        self._metrics.refused(len(refused) - len(malformed))
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
