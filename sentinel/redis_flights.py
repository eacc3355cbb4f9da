"""What is on its way into Redis: events that were received and are not known to be written.

A *flight* is the new rows of one batch. Until Redis has confirmed them, whoever reads an entity
here must see them too, so they lie *over* what Redis says; that they may be there as well does no
harm, since the same event counts once. Rows that could not be written wait in a backlog.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sentinel.profile_plan import ProfilePlan
from sentinel.profile_store import Arrivals, SeenTransaction
from sentinel.profiles import Events
from sentinel.redis_state import Keyspace, by_entity, cut, pack_seen, records_of


@dataclass(slots=True, eq=False)
class Flight:
    """n new rows of one batch.

    ``keys`` and ``records``: of each entity, where a row's record goes, and the record;
    ``judged``: whether the marks in them rest on what Redis knows; ``wasteful``: values read for
    it that a shorter form should replace; ``rows``: those not settled yet, by identity.
    """

    plan: ProfilePlan
    arrivals: Arrivals
    events: Events
    names: NDArray[np.int64]
    holder: int
    since: float
    judged: bool = False
    keys: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, list[bytes]] = field(default_factory=dict)
    wasteful: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def note(self, keyspace: Keyspace, marks: NDArray[np.uint8]) -> None:
        """Makes the records, as marked."""
        for plan in self.plan.entities:
            names = self.arrivals.keys[plan.entity].to_pylist()
            self.keys[plan.entity] = keyspace.entities(plan.entity, names)
            self.records[plan.entity] = cut(records_of(plan, self.events, marks))

    def parts(self, rows: Sequence[int]) -> Iterable[tuple[str, bytes]]:
        """Where each record of these rows goes, and the record."""
        for entity, keys in self.keys.items():
            records = self.records[entity]
            for row in rows:
                yield keys[row], records[row]

    def entries(self, rows: Sequence[int]) -> list[tuple[bytes, bytes]]:
        """Field and value of these rows in the index of transactions."""
        keys = {entity: column.to_pylist() for entity, column in self.arrivals.keys.items()}
        ids, times = self.events.ids.tolist(), self.events.times.tolist()
        return [
            pack_seen(SeenTransaction(ids[row], times[row], by_entity(keys, row))) for row in rows
        ]


@dataclass(slots=True, eq=False)
class Unwritten:
    """All flights under way, and the backlog. ``most`` records; the oldest of the backlog go first.

    ``records``: how many there are; ``dropped``: how many were lost, which are in no profile.
    """

    most: int
    records: int = 0
    dropped: int = 0
    backlog: deque[tuple[Flight, list[int]]] = field(default_factory=deque)
    _flights: dict[int, Flight] = field(default_factory=dict)
    _over: dict[str, list[bytes]] = field(default_factory=dict)

    def take_off(self, flight: Flight) -> None:
        """Begins a flight; one that the same holder began before ends."""
        self._end(flight.holder)
        identities = flight.arrivals.identities
        flight.rows = {identity: row for row, identity in enumerate(identities)}
        self._flights[flight.holder] = flight
        self.cover(flight, list(flight.rows.values()))

    def land(
        self, holder: int, identities: Sequence[tuple[str, str]]
    ) -> tuple[Flight | None, list[int]]:
        """The flight of these transactions, and their rows in it, -1 of one that is not; whoever
        calls must have them ``written`` or ``keep`` them."""
        flight = self._flights.get(holder)
        if flight is None:
            return None, []
        rows = [flight.rows.pop(identity, -1) for identity in identities]
        if not flight.rows:
            del self._flights[holder]
        return flight, rows

    def written(self, flight: Flight, rows: Sequence[int]) -> None:
        """Redis has these rows."""
        for key, record in flight.parts(rows):
            over = self._over.get(key)
            if over is None:
                continue
            over.remove(record)
            self.records -= 1
            if not over:
                del self._over[key]

    def cover(self, flight: Flight, rows: Sequence[int]) -> None:
        """Lays the records of these rows over what Redis says."""
        for key, record in flight.parts(rows):
            self._over.setdefault(key, []).append(record)
            self.records += 1

    def keep(self, flight: Flight, rows: list[int]) -> None:
        """Puts rows that could not be written into the backlog."""
        self.backlog.append((flight, rows))
        while self.records > self.most and self.backlog:
            oldest, lost = self.backlog.popleft()
            self.written(oldest, lost)
            self.dropped += len(lost) * len(oldest.keys)

    def waiting(self, flight: Flight) -> list[int]:
        """The rows of a flight that are not written: under way, and in the backlog."""
        kept = [row for each, rows in self.backlog if each is flight for row in rows]
        return [*flight.rows.values(), *kept]

    def over(self, keys: Sequence[str], values: Sequence[bytes]) -> list[bytes]:
        """The values of these keys with what is on its way there."""
        over = self._over
        if not over:
            return list(values)
        return [
            value + b"".join(over[key]) if key in over else value
            for key, value in zip(keys, values, strict=True)
        ]

    def waits(self, names: set[int]) -> bool:
        """Whether a transaction whose id has one of these hashes is in the backlog."""
        return any(
            not names.isdisjoint(flight.names[rows].tolist()) for flight, rows in self.backlog
        )

    def forget(self, before: float) -> None:
        """Ends flights that began before then: nobody will settle them any more."""
        while self._flights:
            holder, oldest = next(iter(self._flights.items()))
            if oldest.since >= before:
                return
            self._end(holder)

    def _end(self, holder: int) -> None:
        flight = self._flights.pop(holder, None)
        if flight is not None:
            self.written(flight, list(flight.rows.values()))
