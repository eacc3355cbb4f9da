"""Profiles and identities on Redis: shared by all routers, and alive when they are not.

A batch is two trips. ``receive`` claims each transaction and reads the records of each entity, and
makes the features here, by the same ``Profiles.advance`` as everybody. ``settle`` appends the new
records, keeps the answers and notes where the events are; only then may an answer go out. What
Redis holds, and why routers cannot undo each other's writes, is told in ``redis_state``.

When Redis cannot be asked (see ``redis_reach``), transactions are judged as of entities never seen
before, and flagged; their events wait here and are written once it is back. The id of an event is
made of its transaction's id, its caller and the idempotency window it came in, so it is the same
whether Redis was asked or not, and whichever router was: it counts once.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import Overloaded
from sentinel.identity import ANSWERED, NEW
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_store import Arrivals, Label, Reception, without_profiles
from sentinel.profiles import Profiles, count_late
from sentinel.records import Records, event_ids, name_hashes
from sentinel.redis_copy import OnStep, RedisCopy, quiet
from sentinel.redis_flights import Flight, Unwritten
from sentinel.redis_labels import RedisLabels, hashes_of
from sentinel.redis_link import Command, RedisLost, link_to
from sentinel.redis_reach import Reach, logger
from sentinel.redis_scripts import APPEND, CLAIM, REPLACE, SETTLE
from sentinel.redis_settings import DEFAULTS, RedisSettings
from sentinel.redis_state import Keyspace, Room, eight_bytes, instances, tidy
from sentinel.scoring import Judge, StoredAnswer

ABANDONED = 60.0
"""Seconds after which a batch that was received and not settled is given up."""

MOST_KEPT = 32 * 2**20
"""Bytes of memory that are used for the next batch again: fresh pages cost more than what is done
with them."""

_ANSWER = msgspec.msgpack.Decoder(StoredAnswer)


class RedisStore:
    """``ProfileStore`` on the Redis at a URI (see ``redis_link.link_to``).

    Belongs to one event loop. Calls of ``receive`` come one after the other; ``settle`` and
    ``label`` may overlap them.
    """

    def __init__(
        self,
        uri: str,
        name: str,
        settings: RedisSettings = DEFAULTS,
        snapshot: Callable[[], bytes] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``name``: the dataset description's; it begins the keys. ``snapshot`` brings what to fill
        a Redis with that turns out to have lost everything.

        :raises UsageError: the URI is no address of a Redis server.
        """
        self._settings = settings
        self._snapshot = snapshot
        self._clock = clock
        self._keys = Keyspace(name)
        self._link = link_to(uri)
        refill = self._refill if snapshot is not None else None
        self._reach = Reach(self._link, self._keys, settings, refill, self._write_soon)
        self._unwritten = Unwritten(settings.unwritten)
        self._labels = RedisLabels(self._reach, self._keys, settings)
        self._copy = RedisCopy(self._link, self._keys, settings)
        self._writing: asyncio.Task[None] | None = None
        self._room = Room()
        self._pools: dict[str, Records] = {}

    @property
    def out(self) -> str:
        """Why Redis cannot be asked; empty while it can."""
        return self._reach.out

    @property
    def trips(self) -> int:
        """How often something was sent to Redis and waited for."""
        return self._link.trips

    async def check(self) -> None:
        """Whether Redis can be reached and used; to be asked once, at the start.

        :raises RedisLost: it cannot; says which, and why.
        :raises UsageError: an option in the URI is unknown.
        """
        try:
            await self._reach.meet()
        except RedisLost as error:
            raise RedisLost(f"profiles on {self._link.place}: {error}") from error

    async def receive(self, judge: Judge, arrivals: Arrivals, holder: int) -> Reception:
        """See ``ProfileStore``."""
        plan = judge.features.plan
        assert plan is not None, "only a bundle that has profiles asks for them"
        self._unwritten.forget(self._clock() - ABANDONED)
        names = name_hashes(arrivals.ids)
        epoch = int(self._clock() // self._settings.window)
        ids = event_ids(names, instances(arrivals.callers, epoch))
        entities = _distinct(plan, arrivals)
        keys = self._keys_of(entities)
        try:
            replies, values = await self._reach.read(
                "receive",
                self._claims(arrivals, names, ids, holder),
                keys,
                self._settings.deadline_of(len(arrivals)),
            )
        except RedisLost as error:
            self._note_without(plan, arrivals, names, ids, holder)
            return without_profiles(plan, arrivals, str(error))
        verdicts, answers = _verdicts(replies, ids)
        behaviour = np.full((len(arrivals), len(plan.columns)), np.nan, np.float32)
        new = np.flatnonzero(verdicts == NEW)
        if not len(new):
            return Reception(verdicts, behaviour, answers)
        noted = arrivals if len(new) == len(arrivals) else arrivals.take(new)
        events = noted.events(ids[new])
        flight = Flight(plan, noted, events, names[new], holder, self._clock())
        made, marks = self._advance(flight, entities, keys, values)
        flight.judged = True
        self._unwritten.take_off(flight)
        behaviour[new] = made
        return Reception(verdicts, behaviour, answers, *count_late(marks))

    async def settle(
        self, arrivals: Arrivals, answers: Sequence[StoredAnswer | None], holder: int
    ) -> bool:
        """See ``ProfileStore``. Once this is true everything is where Redis keeps it."""
        flight, found = self._unwritten.land(holder, arrivals.identities)
        rows = [row for row in found if row >= 0]
        if flight is None or not rows:
            return not len(arrivals)
        kept = [answer for row, answer in zip(found, answers, strict=True) if row >= 0]
        written = False
        try:
            if flight.judged:
                commands = self._writes(flight, rows, kept)
                await self._reach.ask("settle", commands, self._settings.deadline_of(len(rows)))
                self._unwritten.written(flight, rows)
                written = True
        except RedisLost:
            pass
        finally:
            if not written:
                self._unwritten.keep(flight, rows)
                if not self.out:
                    self._write_soon()
        return written and len(rows) == len(arrivals)

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``. A label is of every transaction of its id, whoever sent it.

        :raises Overloaded: Redis cannot be asked now, or the transaction waits to be written.
        """
        if self._unwritten.backlog and self._unwritten.waits(set(hashes_of(labels))):
            raise Overloaded("profiles", "what is to be labelled is not written yet")
        try:
            return await self._labels.apply(labels)
        except RedisLost as error:
            raise Overloaded("profiles", f"Redis cannot be asked now: {error}") from error

    async def loaded(self) -> str | None:
        """The digest of the snapshot that Redis was filled from, if it was.

        :raises RedisLost: it cannot be reached.
        """
        return await self._reach.loaded() or None

    async def load(self, data: bytes, on_step: OnStep = quiet) -> int:
        """Puts a snapshot into Redis, and notes its digest; how many entities that were.

        What Redis has is kept: of an event in both, one counts.

        :raises BundleError: these bytes are no snapshot.
        :raises RedisLost: Redis cannot be reached; what was loaded stays, and may be loaded again.
        """
        entities = await self._copy.load(data, on_step)
        await self._reach.mark_loaded(digest_of(data))
        return entities

    async def dump(self, on_step: OnStep = quiet) -> bytes:
        """A snapshot of what Redis holds. What is noted meanwhile may be in it or not.

        :raises RedisLost: Redis cannot be reached.
        """
        return await self._copy.dump(on_step)

    async def show(self, entity: str, key: str) -> Records:
        """The records of one entity in time order; none of one that is not known.

        :raises RedisLost: Redis cannot be reached.
        """
        return await self._copy.show(entity, key)

    def figures(self) -> dict[str, Any]:
        """How it does, for metrics."""
        return {
            "out": bool(self.out),
            "emptied": self._reach.emptied,
            "unwritten": self._unwritten.records,
            "backlog": sum(len(rows) for _, rows in self._unwritten.backlog),
            "dropped": self._unwritten.dropped,
            "ms": {kind: 1000 * took for kind, took in self._reach.seconds.items()},
        }

    async def close(self) -> None:
        """Writes what waits to be written, if Redis can be asked, and closes the connections."""
        if not self.out and self._unwritten.backlog:
            self._write_soon()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=self._settings.patience)
            self._writing.cancel()
        if waiting := self.figures()["backlog"]:
            logger.warning("%d transactions are in no profile: %s", waiting, self.out)
        await self._reach.close()

    # --- receiving

    def _claims(
        self, arrivals: Arrivals, names: NDArray[np.int64], ids: NDArray[np.int64], holder: int
    ) -> list[Command]:
        claims = self._keys.claims(names.tolist(), arrivals.identities)
        window, lease = int(1000 * self._settings.window), int(1000 * self._settings.lease)
        columns = zip(claims, eight_bytes(arrivals.digests), eight_bytes(ids), strict=True)
        mine = holder_bytes(holder)
        return [
            ("EVALSHA", CLAIM, 1, claim, digest, event, mine, row, window, lease)
            for row, (claim, digest, event) in enumerate(columns)
        ]

    def _advance(
        self,
        flight: Flight,
        entities: Mapping[str, Sequence[str]],
        keys: Sequence[str],
        values: Sequence[bytes],
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """What the profiles say of a flight's rows, and their marks; it gets its records.

        ``values`` of ``keys`` are what Redis says of ``entities``.
        """
        profiles = Profiles()
        known = self._unwritten.over(keys, values)
        begin = 0
        for plan in flight.plan.entities:
            names = entities[plan.entity]
            end = begin + len(names)
            read = tidy(known[begin:end], plan.keep, room=self._room)
            log = profiles.log(plan.entity)
            log.pool = self._pools.get(plan.entity, log.pool)  # whatever is in it
            log.load(names, read.sizes, read.records)
            for at in np.flatnonzero(read.wasteful).tolist():
                flight.wasteful[keys[begin + at]] = values[begin + at], plan.keep
            begin = end
        made, marks = profiles.advance(flight.plan, flight.events)
        self._pools = {
            name: log.pool for name, log in profiles.logs.items() if log.pool.nbytes <= MOST_KEPT
        }
        flight.note(self._keys, marks)
        return made, marks

    def _note_without(
        self,
        plan: ProfilePlan,
        arrivals: Arrivals,
        names: NDArray[np.int64],
        ids: NDArray[np.int64],
        holder: int,
    ) -> None:
        events = arrivals.events(ids)
        flight = Flight(plan, arrivals, events, names, holder, self._clock())
        flight.note(self._keys, np.zeros(len(arrivals), np.uint8))
        self._unwritten.take_off(flight)

    # --- writing

    def _writes(
        self,
        flight: Flight,
        rows: Sequence[int],
        answers: Sequence[StoredAnswer | None],
    ) -> list[Command]:
        names = flight.names[rows].tolist()
        identities = flight.arrivals.identities
        claims = self._keys.claims(names, [identities[row] for row in rows])
        places = zip(claims, self._keys.seen(names), flight.entries(rows), answers, strict=True)
        alive, mine = int(1000 * self._settings.labels), holder_bytes(flight.holder)
        commands: list[Command] = [
            ("EVALSHA", SETTLE, 2, claim, seen, mine, _packed(answer), event, entry, alive)
            for claim, seen, (event, entry), answer in places
        ]
        appended: dict[str, list[bytes]] = {}
        for key, record in flight.parts(rows):
            appended.setdefault(key, []).append(record)
        commands += [
            self._write(flight, key, b"".join(records)) for key, records in appended.items()
        ]
        return commands

    def _write(self, flight: Flight, key: str, records: bytes) -> Command:
        ttl = int(1000 * self._settings.ttl)
        if key not in flight.wasteful:
            return ("EVALSHA", APPEND, 1, key, records, ttl)
        read, keep = flight.wasteful[key]
        shorter = tidy([read + records], keep).packed()
        digest = hashlib.sha1(read, usedforsecurity=False).hexdigest()
        return ("EVALSHA", REPLACE, 1, key, digest, shorter, records, ttl)

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_backlog())

    async def _write_backlog(self) -> None:
        """Writes what waits, oldest first. What was judged without Redis is judged again: whether
        an amount was unusual is remembered with it."""
        backlog = self._unwritten.backlog
        while backlog:
            flight, rows = backlog[0]
            try:
                if not flight.judged:
                    await self._judge(flight)
                commands = self._writes(flight, rows, [None] * len(rows))
                await self._reach.ask("backlog", commands, self._settings.patience)
            except RedisLost:
                return
            if backlog and backlog[0][1] is rows:  # else it was dropped meanwhile
                backlog.popleft()
                self._unwritten.written(flight, rows)

    async def _judge(self, flight: Flight) -> None:
        entities = _distinct(flight.plan, flight.arrivals)
        keys = self._keys_of(entities)
        _, values = await self._reach.read("backlog", [], keys, self._settings.patience)
        waiting = self._unwritten.waiting(flight)
        self._unwritten.written(flight, waiting)
        self._advance(flight, entities, keys, values)
        self._unwritten.cover(flight, waiting)
        flight.judged = True

    def _keys_of(self, entities: Mapping[str, Sequence[str]]) -> list[str]:
        return [
            key for name, column in entities.items() for key in self._keys.entities(name, column)
        ]

    async def _refill(self) -> str:
        assert self._snapshot is not None
        data = await asyncio.to_thread(self._snapshot)
        await self._copy.load(data)
        return digest_of(data)


def digest_of(snapshot: bytes) -> str:
    """What a snapshot is known by, on Redis."""
    return hashlib.sha256(snapshot).hexdigest()


def holder_bytes(holder: int) -> bytes:
    """A holder as claims keep it; 0 is nobody."""
    return (holder & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")


def _distinct(plan: ProfilePlan, arrivals: Arrivals) -> dict[str, list[str]]:
    """The entities of these arrivals, each once."""
    columns = {each.entity: arrivals.keys[each.entity].to_pylist() for each in plan.entities}
    return {entity: list(dict.fromkeys(column)) for entity, column in columns.items()}


def _packed(answer: StoredAnswer | None) -> bytes:
    return b"" if answer is None else msgspec.msgpack.encode(answer)


def _verdicts(
    replies: Sequence[Any], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int8], dict[int, StoredAnswer]]:
    """Verdicts and answers that the claims came to; ``ids`` gets the event ids of the new rows."""
    verdicts = np.full(len(replies), NEW, np.int8)
    answers: dict[int, StoredAnswer] = {}
    for row, reply in enumerate(replies):
        if isinstance(reply, int):
            verdicts[row] = reply
        elif len(reply) == 8:
            ids[row] = int.from_bytes(reply, "little", signed=True)
        else:
            verdicts[row] = ANSWERED
            answers[row] = _ANSWER.decode(reply)
    return verdicts, answers
