"""A batch from transactions to decisions: identities and profiles, lanes, policy."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sentinel.decision import APPROVE, DECISIONS
from sentinel.identity import ANSWERED, BUSY, NEW
from sentinel.profile_store import Arrivals, ProfileStore, Reception, arrivals
from sentinel.scoring import (
    FRAUD_LANE,
    NOVELTY_LANE,
    Decisions,
    Judge,
    Lanes,
    Scores,
    from_stored,
    join,
    stored_answers,
)
from sentinel.transactions import Transactions
from serve_app.feature_log import FeatureLog
from serve_app.metrics import DECIDE, EXPLAIN, FEATURES, RouterMetrics
from serve_app.served import ServedBundle

PROFILES = "profiles"
"""What is missing, in metrics, when a transaction is judged without its profiles."""

INLINE_FLAGGED = 4
"""Most rows explained on the event loop, which that stops for two milliseconds or so; more go to a
thread."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of n transactions.

    ``codes`` (n,) int8 as in ``sentinel.identity``; ``decisions`` on those that are ``NEW`` or
    ``ANSWERED``, in order.
    """

    codes: NDArray[np.int8]
    decisions: Decisions

    @property
    def decided(self) -> NDArray[np.intp]:
        """The position of each decision's transaction."""
        return np.flatnonzero(self.codes <= ANSWERED)

    @property
    def waiting(self) -> NDArray[np.intp]:
        """The positions of those whose twin is being judged."""
        return np.flatnonzero(self.codes == BUSY)

    def rows(self, start: int, stop: int) -> "Verdict":
        """What became of these transactions."""
        decided = self.codes <= ANSWERED
        before = int(np.count_nonzero(decided[:start]))
        count = int(np.count_nonzero(decided[start:stop]))
        some = slice(before, before + count)
        return Verdict(self.codes[start:stop], self.decisions.take(some))


def _twins(codes: NDArray[np.int8], came: Arrivals) -> tuple[NDArray[np.int8], dict[int, int]]:
    """The codes with those answered that only wait for a twin in the same batch; for each of these
    the position of its twin."""
    waiting = np.flatnonzero(codes == BUSY).tolist()
    if not waiting:
        return codes, {}
    identities = came.identities
    first = {identities[row]: row for row in reversed(np.flatnonzero(codes == NEW).tolist())}
    twins = {row: first[identities[row]] for row in waiting if identities[row] in first}
    codes = codes.copy()
    codes[list(twins)] = ANSWERED
    return codes, twins


class Judging:
    """Judges batches, several at once; profiles take them in in the order they come."""

    def __init__(
        self,
        lanes: Lanes,
        profiles: ProfileStore,
        metrics: RouterMetrics,
        log: FeatureLog | None = None,
        explain_seconds: float = np.inf,
    ) -> None:
        """``profiles`` are asked only for bundles whose features need them. ``explain_seconds``:
        time after the lanes are asked from when on no more rows are explained; 0 explains none."""
        self._explain_seconds = explain_seconds
        self._log = log
        self._lanes = lanes
        self._profiles = profiles
        self._metrics = metrics
        self._in_order = asyncio.Lock()

    async def judge(
        self,
        served: ServedBundle,
        transactions: Transactions,
        callers: Sequence[str],
        holder: int,
    ) -> Verdict:
        """What becomes of n >= 0 transactions of these (n,) callers; ``holder`` is unique."""
        judge = served.judge
        if judge.features.plan is None or not len(transactions):
            decisions = await self._decide(judge, transactions, None, "")
            return Verdict(np.zeros(len(transactions), np.int8), decisions)
        came = arrivals(judge, transactions, callers)
        async with self._in_order:
            reception = await self._profiles.receive(judge, came, holder)
        self._metrics.received(reception)
        codes, twins = _twins(reception.verdicts, came)
        new = np.flatnonzero(codes == NEW)
        if len(new) == len(codes):
            return Verdict(codes, await self._new(judge, transactions, came, reception, holder))
        parts, rows = [], []
        if len(new):
            fresh = Reception(codes[new], reception.behaviour[new], {}, missing=reception.missing)
            some = transactions.take(new), came.take(new)
            parts.append(await self._new(judge, *some, fresh, holder))
            rows.append(new)
        if reception.answers:
            known = np.array(list(reception.answers), np.intp)
            ids = transactions.take(known).ids
            parts.append(from_stored(ids, list(reception.answers.values())))
            rows.append(known)
        if twins:
            # Its twin is in this very batch: what that one gets is its own, degraded or not.
            decided = dict(zip(np.concatenate(rows).tolist(), itertools.count(), strict=False))
            same = np.array([decided[first] for first in twins.values()], np.intp)
            parts.append(join(parts).take(same))
            rows.append(np.array(list(twins), np.intp))
        if not parts:
            return Verdict(codes, await self._decide(judge, transactions.take(new), None, ""))
        return Verdict(codes, join(parts).take(np.argsort(np.concatenate(rows))))

    async def _new(
        self,
        judge: Judge,
        transactions: Transactions,
        came: Arrivals,
        reception: Reception,
        holder: int,
    ) -> Decisions:
        """The decisions on transactions that were never answered, which are then kept."""
        try:
            decisions = await self._decide(
                judge, transactions, reception.behaviour, reception.missing
            )
        except BaseException:
            await self._profiles.settle(came, [None] * len(came), holder)
            raise
        if not await self._profiles.settle(came, stored_answers(decisions), holder):
            # It is not kept, so it may not be promised.
            decisions = replace(decisions, degraded=np.ones(len(decisions), np.bool_))
            if not reception.missing:
                self._metrics.degraded(PROFILES, len(decisions))
        return decisions

    async def _decide(
        self,
        judge: Judge,
        transactions: Transactions,
        behaviour: NDArray[np.float32] | None,
        missing: str,
    ) -> Decisions:
        size = len(transactions)
        if behaviour is None and judge.features.plan is not None:  # no row at all
            behaviour = np.empty((0, len(judge.features.plan.columns)), np.float32)
        start = time.perf_counter()
        features = judge.features(transactions, behaviour)
        self._passed(FEATURES, start)
        if self._log is not None and size:
            names = judge.features.names
            self._log.write(judge.digest, names, transactions.ids, features, bool(missing))
        until = time.monotonic() + self._explain_seconds
        if size:
            scores = await self._lanes(features, judge.digest)
        else:  # every body was refused: nothing to ask
            scores = Scores(np.empty(0), np.empty(0))
        start = time.perf_counter()
        decisions = judge.decide(transactions, scores, degraded=bool(missing))
        self._passed(DECIDE, start)
        self._count(decisions, scores, missing)
        return await self._explained(judge, decisions, features, until)

    async def _explained(
        self, judge: Judge, decisions: Decisions, features: NDArray[np.float32], until: float
    ) -> Decisions:
        flagged = int(np.count_nonzero(decisions.decision != APPROVE))
        if not flagged or not self._explain_seconds:
            return decisions
        start = time.perf_counter()
        if flagged <= INLINE_FLAGGED:
            decisions = judge.explain(decisions, features, until)
        else:
            decisions = await asyncio.to_thread(judge.explain, decisions, features, until)
        self._passed(EXPLAIN, start)
        return decisions

    def _passed(self, stage: str, start: float) -> None:
        self._metrics.stage(stage, time.perf_counter() - start)

    def _count(self, decisions: Decisions, scores: Scores, missing: str) -> None:
        rows = len(decisions)
        self._metrics.scored(rows)
        for code, count in enumerate(np.bincount(decisions.decision, minlength=len(DECISIONS))):
            self._metrics.decided(DECISIONS[code], int(count))
        lacking = {
            FRAUD_LANE: scores.fraud is None,
            NOVELTY_LANE: scores.anomaly is None,
            PROFILES: bool(missing),
        }
        for what, gone in lacking.items():
            if gone:
                self._metrics.degraded(what, rows)
