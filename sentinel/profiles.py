"""Profiles: what every customer usually does, what every terminal has lately seen.

``Profiles.advance`` is the one implementation: it notes a batch of events in event-time order and
yields the features that each saw. Training calls it with a million rows, a request with one.

What holds, for one entity:

- An event sees itself and every event noted before it whose time is not later than its own. Of
  equal times the one that came first is seen by the others.
- A late event takes its place among the older ones: it sees what was before it, and is seen by
  what comes after. Up to ``LATENESS`` behind the entity's newest it is judged exactly; what would
  have been seen from further back may have been dropped.
- An event whose id was noted at the same time already is judged as if it had not been, and counts
  once (as long as its record stands alone, see below).
- At most ``MOST`` records are kept. Where more come within the windows, the older half is joined in
  pairs, again and again: the newest half is always exact, and a count or a sum over a window is
  wrong by no more than the one record that an edge of the window cuts: its far edge, and where the
  window ends in the past (behind the label delay, or at a late event) its near edge too.
- A label counts from ``label_delay`` after its event on, by event time.

Memory is a pool of records for each entity key with regions of 4 to ``MOST`` of them.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel import profile_kernel as kernel
from sentinel import profile_regions as regions
from sentinel.profile_kernel import LATE, TOO_LATE
from sentinel.profile_plan import LATENESS, EntityPlan, ProfilePlan
from sentinel.records import LARGEST_AMOUNT, RECORD, Records, name_hashes, scaled

MOST = 512
"""Most records of one entity: 20 KB. The handbook's busiest terminal has some 300 in 44 days."""

_FIRST_POOL = 1 << 10


@dataclass(frozen=True, slots=True)
class Events:
    """n events that happened to entities, in the order they came.

    ``times`` (n,) int64, microseconds since 1970; ``amounts`` (n,) float64 >= 0; ``keys`` (n,) of
    each entity; ``ids`` (n,) int64, the same for the same event (see ``event_ids``); ``frauds``
    (n,) uint8, 1 where the event is known to be a fraud (which counts once the label delay has
    passed).
    """

    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    keys: Mapping[str, pa.StringArray]
    ids: NDArray[np.int64]
    frauds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: NDArray[np.intp]) -> "Events":
        """These rows."""
        keys = {name: column.take(pa.array(rows)) for name, column in self.keys.items()}
        columns = (self.ids[rows], self.frauds[rows])
        return Events(self.times[rows], self.amounts[rows], keys, *columns)


class Profiles:
    """The profiles of some entity keys, in this process. Not safe to share between threads.

    They know nothing of features: a ``ProfilePlan`` says what to make of the records, and another
    bundle's plan makes others of the same.
    """

    def __init__(self, most: int = MOST) -> None:
        """``most`` records of one entity: a power of two, as regions are, from 4 on."""
        if most < 1 << regions.SMALLEST or most & (most - 1):
            raise ValueError(f"most is {most}; expected a power of two, 4 or more")
        self._most = most
        self.logs: dict[str, EntityLog] = {}

    def advance(
        self, plan: ProfilePlan, events: Events
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Notes these events: (n, b) their features, in the order of ``plan.columns``, NaN where
        there is nothing to tell; and (n,) the marks of each (``UNUSUAL``, ``LATE``, ``TOO_LATE``).
        """
        amounts = scaled(events.amounts)
        marks = np.zeros(len(events), np.uint8)
        blocks = [
            self.log(each.entity).advance(plan, each, events, amounts, marks)
            for each in plan.entities
        ]
        return np.concatenate(blocks, axis=1), marks

    def log(self, entity: str) -> "EntityLog":
        """The records of this entity key, made when first asked for."""
        if entity not in self.logs:
            self.logs[entity] = EntityLog(self._most)
        return self.logs[entity]

    def label(
        self,
        keys: Mapping[str, Sequence[str]],
        times: NDArray[np.int64],
        ids: NDArray[np.int64],
        new: NDArray[np.uint8],
        old: NDArray[np.uint8],
    ) -> None:
        """Marks n events, which had been ``old``, as ``new``: fraud (1) or not (0).

        ``keys``, ``times`` and ``ids`` say where they are, as in ``Events``.
        """
        for entity, log in self.logs.items():
            if entity in keys:
                log.label(keys[entity], times, ids, new, old)

    def forget(self, before: float) -> int:
        """Drops every entity not written since ``before`` (seconds since 1970); how many."""
        return sum(log.forget(before) for log in self.logs.values())

    @property
    def newest(self) -> int | None:
        """Time of the newest event of all, or ``None`` without any."""
        known = [end for log in self.logs.values() if (end := log.newest) is not None]
        return max(known) if known else None

    def __len__(self) -> int:
        """How many entities have one."""
        return sum(len(log) for log in self.logs.values())

    @property
    def bytes(self) -> int:
        """Memory of all records."""
        return sum(log.pool.nbytes for log in self.logs.values())


class EntityLog:
    """The records of one entity key: every customer's, or every terminal's."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.slots: dict[str, int] = {}  # the row of each key in ``regions``
        self.regions = np.zeros((64, 3), np.int64)
        self.pool: Records = np.zeros(_FIRST_POOL, RECORD)
        self._book = np.full(33, -1, np.int64)
        self._book[regions.USED] = 0
        self._written = np.zeros(64)
        self._spare: list[int] = []

    def __len__(self) -> int:
        return len(self.slots)

    def advance(
        self,
        plan: ProfilePlan,
        mine: EntityPlan,
        events: Events,
        amounts: NDArray[np.int64],
        marks: NDArray[np.uint8],
    ) -> NDArray[np.float32]:
        """See ``Profiles.advance``; what is unusual is marked by the entity that says so."""
        slots = self._slots_of(events.keys[mine.entity])
        # What came from another process may be read-only, which is another type to the compiler.
        columns = (events.times, events.ids, events.frauds)
        times, ids, frauds = (np.require(column, None, "W") for column in columns)
        order = np.argsort(slots, kind="stable")
        if (np.diff(events.times) < 0).any():
            order = np.lexsort((events.times, slots))
        out = np.empty((len(slots), len(mine.ops)), np.float32)
        others = other_hashes(events.keys, mine.other)
        # As profiles count it: a ratio of anything larger would not fit into float32.
        raw = np.minimum(events.amounts, LARGEST_AMOUNT)
        self._make_room(len(slots))
        at = 0
        while True:
            at = kernel.advance(
                self.pool, self.regions, self._book, self.most, order, at, slots,
                times, amounts, raw, ids, others, frauds,
                marks, mine.windows, mine.risk_windows, plan.delay, mine.keep, LATENESS,
                mine.ops, mine.op_windows, mine.order_window,
                mine.unusual_window, plan.unusual_above, plan.unusual_least, out,
            )  # fmt: skip
            if at == len(order):
                break
            self._make_room(len(self.pool))
        self._written[slots] = time.time()
        return out

    def label(
        self,
        keys: Sequence[str],
        times: NDArray[np.int64],
        ids: NDArray[np.int64],
        new: NDArray[np.uint8],
        old: NDArray[np.uint8],
    ) -> None:
        """See ``Profiles.label``."""
        slots = np.array([self.slots.get(key, -1) for key in keys], np.int64)
        here = np.flatnonzero(slots >= 0)
        columns = (column[here] for column in (slots, times, ids, new, old))
        kernel.label(self.pool, self.regions, *columns)

    def records(self, key: str) -> Records:
        """The records of one entity in time order, a copy; none for one that is not known."""
        slot = self.slots.get(key)
        if slot is None:
            return np.empty(0, RECORD)
        start, length, _ = self.regions[slot]
        return self.pool[start : start + length].copy()

    def items(self) -> Iterator[tuple[str, Records]]:
        """Every entity and its records, in the order they were first seen; views, not copies."""
        for key, slot in self.slots.items():
            start, length, _ = self.regions[slot]
            yield key, self.pool[start : start + length]

    def load(self, keys: Sequence[str], lengths: NDArray[np.int64], records: Records) -> None:
        """Puts in these entities, each with so many of ``records``, which must be in time order.

        An entity that is there already is replaced.
        """
        slots = np.array([self._slot(key) for key in keys], np.int64)
        for slot in slots[self.regions[slots, regions.LENGTH] > 0]:
            regions.release(self.pool, self.regions[slot], self._book)
        at = 0
        while True:
            at += regions.reserve(
                self.pool, self.regions, self._book, self.most, slots[at:], lengths[at:]
            )
            if at == len(slots):
                break
            self._make_room(len(self.pool))
        regions.fill(self.pool, self.regions, slots, lengths, records)
        self._written[slots] = time.time()

    def forget(self, before: float) -> int:
        old = [key for key, slot in self.slots.items() if self._written[slot] < before]
        for key in old:
            self.drop(key)
        return len(old)

    def drop(self, key: str) -> None:
        """Forgets this entity."""
        slot = self.slots.pop(key)
        regions.release(self.pool, self.regions[slot], self._book)
        self._spare.append(slot)

    @property
    def newest(self) -> int | None:
        """Time of the newest record of all entities."""
        lengths = self.regions[:, regions.LENGTH]
        used = lengths > 0
        if not used.any():
            return None
        last = self.regions[used, regions.START] + lengths[used] - 1
        return int(self.pool["time"][last].max())

    def _slots_of(self, keys: pa.StringArray) -> NDArray[np.int64]:
        if len(keys) > 1000:
            encoded = keys.dictionary_encode()
            return self._known_slots(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
        return self._known_slots(keys.to_pylist())

    def _known_slots(self, keys: list[str]) -> NDArray[np.int64]:
        found = [*map(self.slots.get, keys)]
        if None in found:
            found = [*map(self._slot, keys)]
        return np.array(found, np.int64)

    def _slot(self, key: str) -> int:
        slot = self.slots.get(key)
        if slot is not None:
            return slot
        slot = self._spare.pop() if self._spare else len(self.slots)
        if slot == len(self.regions):
            self.regions = np.concatenate([self.regions, np.zeros_like(self.regions)])
            self._written = np.concatenate([self._written, np.zeros_like(self._written)])
        self.slots[key] = slot
        return slot

    def _make_room(self, records: int) -> None:
        """At least so many records that were never given out; pages not written cost nothing."""
        used = int(self._book[regions.USED])
        if len(self.pool) - used < records:
            pool = np.zeros(max(2 * len(self.pool), used + records), RECORD)
            pool[:used] = self.pool[:used]
            self.pool = pool


def count_late(marks: NDArray[np.uint8]) -> tuple[int, int]:
    """How many events were late, and how many of them too late to be judged exactly."""
    return int(np.count_nonzero(marks & LATE)), int(np.count_nonzero(marks & TOO_LATE))


def other_hashes(keys: Mapping[str, pa.StringArray], other: str | None) -> NDArray[np.uint32]:
    """(n,) what records remember of the other entity; 0 where it is not asked for."""
    if other is None:
        return np.zeros(len(next(iter(keys.values()))), np.uint32)
    return (name_hashes(keys[other]) & 0xFFFFFFFF).astype(np.uint32)
