"""Where profiles and identities are kept: one seam, and the store in memory.

A *store* takes transactions in (``receive``): it claims their identities, notes them in the
profiles and says what the profiles know of each. Whoever scored them hands the answers back
(``settle``). ``MemoryStore`` does that in this process: behind a Serve deployment for the routers
of a machine, directly for files and tests. ``sentinel.redis_store`` does it on Redis.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.identity import NEW, Claims, field_digests
from sentinel.profile_plan import ProfilePlan
from sentinel.profiles import Events, Profiles, count_late
from sentinel.records import event_ids, name_hashes
from sentinel.scoring import Judge, StoredAnswer
from sentinel.store_limits import StoreLimits
from sentinel.transactions import Transactions

APPLIED, REPEATED, SUPERSEDED, UNKNOWN = "applied", "repeated", "superseded", "unknown"
"""What became of a label: it counts from the label delay on; it was known already; a label of a
later time was known; no transaction of that id is remembered."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n transactions as a store takes them in.

    ``callers`` (n,) who sent each; ``digests`` (n,) int64 of its fields; ``keys`` (n,) of each
    entity that has profiles; the rest as in ``Transactions`` and ``Events``.
    """

    callers: Sequence[str]
    ids: pa.StringArray
    digests: NDArray[np.int64]
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    keys: Mapping[str, pa.StringArray]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def identities(self) -> list[tuple[str, str]]:
        """(n,) caller and transaction id of each."""
        return list(zip(self.callers, self.ids.to_pylist(), strict=True))

    def events(self, ids: NDArray[np.int64]) -> Events:
        """The same as events, none of them known to be a fraud."""
        return Events(self.times, self.amounts, self.keys, ids, np.zeros(len(self), np.uint8))

    def take(self, rows: NDArray[np.intp]) -> "Arrivals":
        """These rows."""
        return Arrivals(
            callers=[self.callers[row] for row in rows.tolist()],
            ids=self.ids.take(pa.array(rows)),
            digests=self.digests[rows],
            times=self.times[rows],
            amounts=self.amounts[rows],
            keys={name: column.take(pa.array(rows)) for name, column in self.keys.items()},
        )


def arrivals(judge: Judge, transactions: Transactions, callers: Sequence[str]) -> Arrivals:
    """These transactions, of a description that has profiles."""
    assert judge.features.plan is not None
    assert transactions.times is not None
    return Arrivals(
        callers=callers,
        ids=transactions.ids,
        digests=field_digests(transactions),
        times=transactions.times,
        amounts=judge.amounts(transactions),
        keys={name: transactions.entities[name] for name in judge.features.plan.keys},
    )


@dataclass(frozen=True, slots=True)
class Reception:
    """What a store says of n arrivals.

    ``verdicts`` (n,) int8 (see ``identity``); ``behaviour`` (n, b) float32, of use where a verdict
    is ``NEW``; ``answers`` by row, where it is ``ANSWERED``; ``late`` and ``too_late`` count new
    rows whose entity had a newer event, and one so new that the row's features may lack something.
    ``missing`` says why the store could not be asked; every row is then ``NEW``, judged as of
    entities never seen before, and must be flagged as degraded.
    """

    verdicts: NDArray[np.int8]
    behaviour: NDArray[np.float32]
    answers: Mapping[int, StoredAnswer]
    late: int = 0
    too_late: int = 0
    missing: str = ""


def without_profiles(plan: ProfilePlan, arrivals: Arrivals, why: str) -> Reception:
    """What is said of arrivals while the store cannot be asked."""
    size = len(arrivals)
    events = arrivals.events(event_ids(name_hashes(arrivals.ids)))
    behaviour, _ = Profiles().advance(plan, events)
    return Reception(np.full(size, NEW, np.int8), behaviour, {}, missing=why)


class Label(msgspec.Struct, frozen=True):
    """What a transaction turned out to be, and when that was established (microseconds)."""

    transaction_id: str
    is_fraud: bool
    timestamp: int


class ProfileStore(Protocol):
    """Where a router's profiles and identities are."""

    async def receive(self, judge: Judge, arrivals: Arrivals, holder: int) -> Reception:
        """Claims the arrivals for ``holder`` (unique for each call, the same if it is repeated),
        notes the new ones, and says what the profiles know of them.

        ``judge`` is that of the bundle whose features are wanted.
        """

    async def settle(
        self, arrivals: Arrivals, answers: Sequence[StoredAnswer | None], holder: int
    ) -> bool:
        """Keeps the answers to arrivals that were ``NEW``; ``None`` for one not worth keeping.

        Whether everything about them is now where it survives this process.
        """

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """What became of each label, in order.

        :raises Overloaded: the store cannot be asked now.
        """


class SeenTransaction(msgspec.Struct, gc=False):
    """Where a transaction's events are, and what is known of it. There are millions of them, none
    part of a cycle: Python's garbage collector need not look through them."""

    event: int
    time: int
    keys: Mapping[str, str]
    fraud: int = 0
    labelled: int | None = None
    """The time of the label that said so; ``None`` before any, or if it came with a snapshot."""


def judge_label(label: Label, seen: SeenTransaction) -> str:
    """What a label does to a transaction. Of two labels the one of the later time counts, whatever
    order they come in; of two of the same time the one that comes later."""
    if seen.labelled is None:
        return APPLIED
    if label.timestamp < seen.labelled:
        return SUPERSEDED
    repeated = label.timestamp == seen.labelled and label.is_fraud == bool(seen.fraud)
    return REPEATED if repeated else APPLIED


class Seen:
    """The transactions that labels may still come for, by id; the oldest go first."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Nearly every name has one; a list for each would be as large as what it holds.
        self._by_name: OrderedDict[int, SeenTransaction | list[SeenTransaction]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, names: NDArray[np.int64], events: Events) -> None:
        """Remembers these transactions, ``names`` being the hashes of their ids."""
        entities = tuple(events.keys)
        keys = zip(*(column.to_pylist() for column in events.keys.values()), strict=True)
        columns = (column.tolist() for column in (names, events.ids, events.times, events.frauds))
        for name, event, moment, fraud, row in zip(*columns, keys, strict=True):
            by_entity = dict(zip(entities, row, strict=True))
            self._put(name, SeenTransaction(event, moment, by_entity, fraud))
        self.limit(self._most)

    def put(self, name: int, transaction: SeenTransaction) -> None:
        """Remembers one; the same event is remembered once."""
        self._put(name, transaction)
        self.limit(self._most)

    def _put(self, name: int, transaction: SeenTransaction) -> None:
        held = self._by_name.setdefault(name, transaction)
        if held is transaction:
            return
        several = held if isinstance(held, list) else [held]
        if all(each.event != transaction.event for each in several):
            self._by_name[name] = [*several, transaction]

    def limit(self, most: int) -> None:
        """Keeps so many from now on."""
        self._most = most
        while len(self._by_name) > most:
            self._by_name.popitem(last=False)

    def find(self, name: int) -> Sequence[SeenTransaction]:
        """All transactions whose id has this hash."""
        held = self._by_name.get(name, ())
        return (held,) if isinstance(held, SeenTransaction) else held

    def items(self) -> Iterator[tuple[int, SeenTransaction]]:
        """Every one with the hash of its id, oldest first."""
        for name in self._by_name:
            for each in self.find(name):
                yield name, each


class MemoryStore:
    """Profiles, identities and label times in this process. One thread at a time."""

    def __init__(
        self, limits: StoreLimits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        limits = limits or StoreLimits()
        self.profiles = Profiles()
        self._limits = limits
        self._clock = clock
        self._claims = Claims(limits.window, limits.identities)
        self.seen = Seen(limits.labels)

    def receive(self, plan: ProfilePlan, arrivals: Arrivals, holder: int) -> Reception:
        """See ``ProfileStore``; a row is noted at once."""
        names = name_hashes(arrivals.ids)
        verdicts = self._claims.claim(
            arrivals.identities, arrivals.digests, names, holder, self._clock()
        )
        behaviour = np.full((len(arrivals), len(plan.columns)), np.nan, np.float32)
        new = np.flatnonzero(verdicts.codes == NEW)
        if not len(new):
            return Reception(verdicts.codes, behaviour, verdicts.answers)
        noted = arrivals if len(new) == len(arrivals) else arrivals.take(new)
        events = noted.events(verdicts.events[new])
        made, marks = self.profiles.advance(plan, events)
        behaviour[new] = made
        self.seen.add(names[new], events)
        return Reception(verdicts.codes, behaviour, verdicts.answers, *count_late(marks))

    def settle(
        self,
        identities: Sequence[tuple[str, str]],
        answers: Sequence[StoredAnswer | None],
        holder: int,
    ) -> None:
        """See ``ProfileStore``."""
        self._claims.settle(identities, answers, holder)

    def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``. A label is of every transaction of its id, whoever sent it."""
        outcomes = []
        marks: list[tuple[SeenTransaction, int]] = []
        names = name_hashes(pa.array([label.transaction_id for label in labels], pa.string()))
        for label, name in zip(labels, names.tolist(), strict=True):
            outcome = UNKNOWN
            for each in self.seen.find(name):
                outcome = judge_label(label, each)
                if outcome == APPLIED:
                    marks.append((each, each.fraud))
                    each.fraud, each.labelled = int(label.is_fraud), label.timestamp
            outcomes.append(outcome)
        self._mark(marks)
        return outcomes

    def _mark(self, marks: Sequence[tuple[SeenTransaction, int]]) -> None:
        """Marks these transactions as they now are; each had been marked so."""
        last = {each.event: each for each, _ in marks}
        first = {each.event: was for each, was in reversed(marks)}
        by_entities: dict[tuple[str, ...], list[SeenTransaction]] = {}
        for each in last.values():
            by_entities.setdefault(tuple(each.keys), []).append(each)
        for entities, some in by_entities.items():
            self.profiles.label(
                {name: [each.keys[name] for each in some] for name in entities},
                np.array([each.time for each in some], np.int64),
                np.array([each.event for each in some], np.int64),
                np.array([each.fraud for each in some], np.uint8),
                np.array([first[each.event] for each in some], np.uint8),
            )

    def take_over(self, other: "MemoryStore") -> None:
        """Takes the profiles of another store, and what labels may come for, as its own."""
        self.profiles, self.seen = other.profiles, other.seen
        self.seen.limit(self._limits.labels)

    def take_missing(self, other: "MemoryStore") -> None:
        """Takes the profiles of entity keys that this store has none of."""
        for name, log in other.profiles.logs.items():
            self.profiles.logs.setdefault(name, log)

    def forget(self) -> int:
        """Drops the entities whose time has come; how many."""
        return self.profiles.forget(self._clock() - self._limits.ttl)

    def figures(self) -> dict[str, Any]:
        """What it holds, for metrics."""
        return {
            "entities": {name: len(log) for name, log in self.profiles.logs.items()},
            "bytes": self.profiles.bytes,
            "identities": len(self._claims),
        }


def warm_up(judge: Judge) -> None:
    """Has everything compiled that taking transactions in needs: the first ones cannot wait for
    it, which takes seconds where nothing is cached. Touches no store."""
    plan = judge.features.plan
    if plan is None:
        return
    numbers = np.zeros((1, len(judge.description.numbers)))
    entities = {name: pa.array(["0"]) for name in judge.description.entities}
    one = Transactions(pa.array(["0"]), np.zeros(1, np.int64), entities, numbers)
    store = MemoryStore()
    store.receive(plan, arrivals(judge, one, [""]), 1)
    store.label([Label("0", True, 0)])
