"""A bundle in this process, answering as the application does: for a replay, and to try things."""

import os
import time
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from sentinel.bundle import Bundle
from sentinel.errors import FieldError, IdentityConflict
from sentinel.history import COLD, History, history_of
from sentinel.identity import ANSWERED, BUSY, CONFLICT, NEW
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_store import MemoryStore, arrivals
from sentinel.scoring import Decisions, from_stored, join, score_offline, stored_answers
from sentinel.store_limits import StoreLimits
from sentinel.stream_exchange import (
    KAFKA,
    Contract,
    Labelled,
    OtherContract,
    Scored,
    contract_of,
    pack_decisions,
    unpack,
)
from sentinel.transactions import Transactions


class BundleApp:
    """See ``scorer.App``. Profiles are in memory and begin with the bundle's; they do not know
    what labels would have told."""

    def __init__(self, bundle: Bundle, clock: Callable[[], float] = time.time) -> None:
        """``clock`` tells the time by which the idempotency window passes.

        :raises BundleError: the bundle cannot be used.
        """
        self._judge = bundle.judge()
        self._lanes = bundle.lanes(threads=os.cpu_count() or 1)
        self._contract = contract_of(self._judge.description)
        self._clock = clock
        self._holders = count(1)
        self._history: History | None = history_of(bundle, labels_come=False)
        self._store: MemoryStore | None = None

    @property
    def profiles(self) -> str | None:
        """Where the profiles came from: ``bundle`` or ``cold``; ``None`` if none are needed."""
        return None if self._history is None else self._history.source

    async def contract(self) -> Contract:
        """What records are to be read by."""
        return self._contract

    async def score(self, topic: str, schema: str, columns: bytes) -> Scored | OtherContract:
        """What becomes of these transactions, whose ids are those of this topic."""
        if schema != self._contract.schema:
            return OtherContract(self._contract)
        transactions = unpack(columns)
        plan = self._judge.features.plan
        if plan is None:
            decisions = score_offline(self._judge, self._lanes, transactions)
            return Scored(pack_decisions(decisions), np.arange(len(transactions)), ())
        return self._with_profiles(plan, transactions, f"{KAFKA}{topic}")

    async def label(self, records: Sequence[bytes]) -> Labelled:
        """No label finds its transaction here."""
        return Labelled(("unknown",) * len(records), ())

    def _with_profiles(self, plan: ProfilePlan, transactions: Transactions, caller: str) -> Scored:
        store = self._store or self._begin(transactions)
        arrived = arrivals(self._judge, transactions, [caller] * len(transactions))
        found = _Found(self._judge.description.id, self._decide_none(plan, transactions))
        left = np.arange(len(transactions))
        while len(left):  # once more for those whose twin is among them
            holder, some = next(self._holders), arrived.take(left)
            received = store.receive(plan, some, holder)
            verdicts = received.verdicts
            new = np.flatnonzero(verdicts == NEW)
            if len(new):
                decided = score_offline(
                    self._judge, self._lanes, transactions.take(left[new]), received.behaviour[new]
                )
                store.settle(some.take(new).identities, stored_answers(decided), holder)
                found.add(left[new], decided)
            if len(again := np.flatnonzero(verdicts == ANSWERED)):
                kept = [received.answers[row] for row in again.tolist()]
                found.add(left[again], from_stored(some.take(again).ids, kept))
            found.refuse(left[verdicts == CONFLICT], transactions)
            left = left[verdicts == BUSY]
        return found.scored()

    def _decide_none(self, plan: ProfilePlan, transactions: Transactions) -> Decisions:
        behaviour = np.empty((0, len(plan.columns)), np.float32)
        return score_offline(self._judge, self._lanes, transactions.take(slice(0, 0)), behaviour)

    def _begin(self, first: Transactions) -> MemoryStore:
        """The store, which begins with the bundle's profiles if they end before these rows: a
        snapshot remembers what later rows can see, not what these could."""
        assert self._history is not None
        assert first.times is not None
        newest = self._history.newest
        if newest is not None and len(first) and first.times.min() <= newest:
            self._history.store, self._history.source = MemoryStore(), COLD
        self._store = MemoryStore(StoreLimits(labels=1), self._clock)
        self._store.take_over(self._history.store)
        return self._store


class _Found:
    """What became of the transactions of a batch so far, in any order."""

    def __init__(self, name: str, none: Decisions) -> None:
        """``name`` of the field that is the id; ``none``: decisions on no transaction."""
        self._name = name
        self._rows = [np.empty(0, np.intp)]
        self._decisions = [none]
        self._refused: list[FieldError] = []

    def add(self, rows: NDArray[np.intp], decisions: Decisions) -> None:
        self._rows.append(rows)
        self._decisions.append(decisions)

    def refuse(self, rows: NDArray[np.intp], transactions: Transactions) -> None:
        """The ids of these were used with other fields."""
        expected = IdentityConflict.expected
        self._refused += [
            FieldError(row, self._name, transactions.ids[row].as_py(), expected)
            for row in rows.tolist()
        ]

    def scored(self) -> Scored:
        """All of it, in the order of the batch."""
        rows = np.concatenate(self._rows)
        order = np.argsort(rows)
        decisions = join(self._decisions).take(order)
        refused = sorted(self._refused, key=lambda error: error.index or 0)
        return Scored(pack_decisions(decisions), rows[order], tuple(refused))
