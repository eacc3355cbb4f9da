"""Labels on Redis: what a transaction turned out to be.

Not on the way of a payment, so it takes the trips it needs:

1. read what the index knows of the transactions;
2. note the label there, unless another came in between: then begin again;
3. append it to the records of each of the transaction's entities;
4. read the index again: if another label was noted meanwhile, append that too, because nobody
   knows whose records were appended last.

Who dies between 2 and 3 leaves a label that counts nowhere. So one that is repeated is appended
again: the records say the same thing twice, which is as good as once.
"""

from collections.abc import Sequence

import pyarrow as pa
from msgspec.structs import replace

from sentinel.profile_store import APPLIED, REPEATED, UNKNOWN, Label, SeenTransaction, judge_label
from sentinel.records import name_hashes
from sentinel.redis_link import Command, RedisLost
from sentinel.redis_reach import Reach
from sentinel.redis_scripts import APPEND, CORRECT
from sentinel.redis_settings import RedisSettings
from sentinel.redis_state import Keyspace, label_record, pack_seen, unpack_seen

AT_ONCE = 500
"""Labels of one trip: more would keep batches of transactions waiting."""

TRIES = 8
"""Times a label is noted again because another of the same transaction was faster."""

Place = tuple[int, bytes]
"""The hash of a transaction's id, and its event's field in the index."""


class RedisLabels:
    """Applies labels."""

    def __init__(self, reach: Reach, keys: Keyspace, settings: RedisSettings) -> None:
        self._reach = reach
        self._keys = keys
        self._settings = settings

    async def apply(self, labels: Sequence[Label]) -> list[str]:
        """What became of each label, in order.

        :raises RedisLost: Redis cannot be asked; what was applied stays, and may be sent again.
        """
        outcomes: list[str] = []
        for start in range(0, len(labels), AT_ONCE):
            outcomes += await self._apply(labels[start : start + AT_ONCE])
        return outcomes

    async def _apply(self, labels: Sequence[Label]) -> list[str]:
        names = hashes_of(labels)
        outcomes = [UNKNOWN] * len(labels)
        left = list(range(len(labels)))
        for _ in range(TRIES):
            if not left:
                return outcomes
            left = await self._attempt(labels, names, left, outcomes)
        raise RedisLost("labels of the same transactions came faster than they could be noted")

    async def _attempt(
        self, labels: Sequence[Label], names: Sequence[int], rows: Sequence[int], out: list[str]
    ) -> list[int]:
        """Applies the labels in these rows; the rows to be tried again."""
        read = await self._look_up({names[row] for row in rows})
        found = {place: unpack_seen(place[1], value) for place, value in read.items()}
        wanted, marks = dict(found), {}
        by_name: dict[int, list[Place]] = {}
        for place in found:
            by_name.setdefault(place[0], []).append(place)
        for row in rows:
            for place in by_name.get(names[row], ()):
                seen = wanted[place]
                out[row] = judge_label(labels[row], seen)
                if out[row] == APPLIED:
                    at, fraud = labels[row].timestamp, int(labels[row].is_fraud)
                    wanted[place] = replace(seen, fraud=fraud, labelled=at)
                if out[row] in (APPLIED, REPEATED):
                    marks[place] = found[place].fraud
        changed = {place: wanted[place] for place in marks if wanted[place] != found[place]}
        late = await self._correct(read, changed)
        await self._mark(
            {place: (wanted[place], was) for place, was in marks.items() if place not in late}
        )
        again = {name for name, _ in late}
        return [row for row in rows if names[row] in again]

    async def _look_up(self, names: set[int]) -> dict[Place, bytes]:
        """What the index says of each transaction, of those of the same id the latest last."""
        order = list(names)
        commands: list[Command] = [("HGETALL", key) for key in self._keys.seen(order)]
        replies = await self._reach.ask("label", commands, self._settings.patience)
        found: dict[Place, bytes] = {}
        for name, reply in zip(order, replies, strict=True):
            pairs = zip(reply[::2], reply[1::2], strict=True)
            held = {(name, field): value for field, value in pairs}
            found.update(sorted(held.items(), key=lambda each: unpack_seen(b"", each[1]).time))
        return found

    async def _correct(
        self, read: dict[Place, bytes], changed: dict[Place, SeenTransaction]
    ) -> set[Place]:
        """Notes these in the index; those that are not as they were read are returned."""
        if not changed:
            return set()
        keys = self._keys.seen([name for name, _ in changed])
        commands: list[Command] = [
            ("EVALSHA", CORRECT, 1, key, place[1], read[place], pack_seen(seen)[1])
            for key, (place, seen) in zip(keys, changed.items(), strict=True)
        ]
        replies = await self._reach.ask("label", commands, self._settings.patience)
        return {place for place, done in zip(changed, replies, strict=True) if not done}

    async def _mark(self, marks: dict[Place, tuple[SeenTransaction, int]]) -> None:
        """Appends labels to the records of their entities, until the index says the same."""
        ttl = int(1000 * self._settings.ttl)
        while marks:
            commands: list[Command] = []
            for seen, was in marks.values():
                record = label_record(seen, was)
                for entity, name in seen.keys.items():
                    (key,) = self._keys.entities(entity, [name])
                    commands.append(("EVALSHA", APPEND, 1, key, record, ttl))
            await self._reach.ask("label", commands, self._settings.patience)
            read = await self._look_up({name for name, _ in marks})
            now = {place: unpack_seen(place[1], value) for place, value in read.items()}
            # Whoever noted the other label has moved the sums; this only says it last.
            marks = {
                place: (now[place], now[place].fraud)
                for place, (seen, _) in marks.items()
                if place in now and now[place] != seen
            }


def hashes_of(labels: Sequence[Label]) -> list[int]:
    """(n,) hashes of the transaction ids, by which the index knows them."""
    if not labels:
        return []
    ids = pa.array([label.transaction_id for label in labels], pa.string())
    hashes: list[int] = name_hashes(ids).tolist()
    return hashes
