"""What is kept on Redis, and under which keys.

All keys begin with ``sentinel:NAME:1:``: the name of the dataset description, and
``RECORDS_VERSION``. What stands in braces decides the slot of a Redis Cluster.

| key | value | lives |
|---|---|---|
| ``e:ENTITY:KEY`` | records of 40 bytes, in any order | ``ttl`` from the last |
| ``c:{ID}:CALLER:TRANSACTION`` | claim: digest, event, holder, row, lease; answer | ``window`` |
| ``t:{ID}`` | hash: of each event its time, label and entity keys | ``labels`` |
| ``filled`` | random generation, ``:``, digest of the snapshot that was loaded | for ever |
| ``filling``, ``probe`` | a router loads a snapshot; Redis takes writes | seconds |

``ID`` is the hash of the transaction's id, 16 hexadecimal digits. The records of an entity are a
*set*: whoever notes an event appends it, in any order and more than once, and reading puts that
right (``tidy``). So no router can undo what another wrote. A label is a record too, of count 0:
``time`` and ``id`` of its event, in ``amount`` the time of the label, in ``frauds`` and
``unusual`` what the event is now and was before; the newest one counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel import redis_kernel as kernel
from sentinel.profile_kernel import UNUSUAL
from sentinel.profile_plan import EntityPlan
from sentinel.profile_store import SeenTransaction
from sentinel.profiles import MOST, Events, other_hashes
from sentinel.records import RECORD, RECORDS_VERSION, Records, name_hashes, scaled

FOR_EVER = 2**61
"""Microseconds no record is too old for: nothing is known of the windows."""

_NEVER = -(2**63)
_KEYS = msgspec.msgpack.Decoder(dict[str, str])
_MOST_KEPT = 1 << 17
"""Most records that memory is kept for: 16 MB."""
_SPARE = 8
"""Records to spare below which a shorter form is not worth writing."""


class Keyspace:
    """The keys of one dataset description."""

    def __init__(self, name: str) -> None:
        self.prefix = f"sentinel:{name}:{RECORDS_VERSION}:"
        self.filled = f"{self.prefix}filled"
        self.filling = f"{self.prefix}filling"
        self.probe = f"{self.prefix}probe"

    def entities(self, entity: str, keys: Sequence[str]) -> list[str]:
        """Where the records of these entities are."""
        start = f"{self.prefix}e:{entity}:"
        return [start + key for key in keys]

    def seen(self, names: Sequence[int]) -> list[str]:
        """The index entries of the transactions whose ids have these hashes."""
        start = f"{self.prefix}t:{{"
        return [f"{start}{name & 0xFFFFFFFFFFFFFFFF:016x}}}" for name in names]

    def claims(self, names: Sequence[int], identities: Sequence[tuple[str, str]]) -> list[str]:
        """The claims on these transactions."""
        start = f"{self.prefix}c:{{"
        return [
            f"{start}{name & 0xFFFFFFFFFFFFFFFF:016x}}}:{caller}:{transaction}"
            for name, (caller, transaction) in zip(names, identities, strict=True)
        ]

    def entity_of(self, key: str) -> tuple[str, str]:
        """Entity and key that these records are of."""
        entity, _, name = key[len(self.prefix) + 2 :].partition(":")
        return entity, name

    def name_of(self, key: str) -> int:
        """The hash of the transaction's id that this index entry is of."""
        name = int(key[-17:-1], 16)
        return name - 2**64 if name >= 2**63 else name


@dataclass(frozen=True, slots=True)
class Tidied:
    """The records of k entities in order: ``sizes`` (k,) of ``records`` each; of ``labels``,
    ``label_sizes`` each have no event yet. ``wasteful`` (k,): a shorter form should be written."""

    records: Records
    sizes: NDArray[np.int64]
    labels: Records
    label_sizes: NDArray[np.int64]
    wasteful: NDArray[np.bool_]

    def packed(self) -> bytes:
        """The shorter form of all of them, as one entity's."""
        return self.records.tobytes() + self.labels.tobytes()


class Room:
    """Memory to read states into, used again and again: fresh pages cost more than what is done
    with them. What ``tidy`` returns lies in it until it is called with it again."""

    def __init__(self) -> None:
        self._arrays = np.zeros((3, 0), RECORD)

    def arrays(self, size: int) -> tuple[Records, Records, Records]:
        """Three times room for so many records."""
        if self._arrays.shape[1] < size:
            self._arrays = np.zeros((3, size), RECORD)
        first, second, third = (each[:size] for each in self._arrays)
        if size > _MOST_KEPT:
            self._arrays = np.zeros((3, 0), RECORD)
        return first, second, third


def tidy(
    values: Sequence[bytes], keep: int = FOR_EVER, most: int = MOST, room: Room | None = None
) -> Tidied:
    """Reads what Redis keeps of k entities: events by time and then arrival, each once, none
    ``keep`` microseconds older than its entity's newest, at most ``most`` each."""
    lengths = np.array([len(value) for value in values], np.int64) // RECORD.itemsize
    records, out, labels = (room or Room()).arrays(int(lengths.sum()))
    _fill(records, values)
    sizes, label_sizes, waste = np.zeros((3, len(lengths)), np.int64)
    kernel.tidy(records, lengths, keep, most, out, sizes, labels, label_sizes, waste)
    wasteful = (waste >= _SPARE) & (4 * waste > lengths)
    return Tidied(out[: sizes.sum()], sizes, labels[: label_sizes.sum()], label_sizes, wasteful)


def _fill(records: Records, values: Sequence[bytes]) -> None:
    into = records.view(np.uint8).data
    begin = 0
    for value in values:
        end = begin + len(value)
        into[begin:end] = value
        begin = end


def records_of(plan: EntityPlan, events: Events, marks: NDArray[np.uint8]) -> Records:
    """(n,) events as records of one of their entities, as ``Profiles.advance`` notes them."""
    records = np.zeros(len(events), RECORD)
    records["time"] = events.times
    records["amount"] = scaled(events.amounts)
    records["id"] = events.ids
    records["count"] = 1
    records["unusual"] = marks & UNUSUAL
    records["other"] = other_hashes(events.keys, plan.other)
    return records


def label_record(seen: SeenTransaction, was: int) -> bytes:
    """What is appended to the records of each entity of a transaction that was labelled."""
    record = np.zeros(1, RECORD)
    record["time"], record["id"] = seen.time, seen.event
    record["amount"] = seen.labelled or 0
    record["frauds"], record["unusual"] = seen.fraud, was
    return record.tobytes()


def pack_seen(seen: SeenTransaction) -> tuple[bytes, bytes]:
    """Field and value in the index. The value begins with the event's time."""
    labelled = _NEVER if seen.labelled is None else seen.labelled
    head = _int64(seen.time) + bytes([seen.fraud]) + _int64(labelled)
    return _int64(seen.event), head + msgspec.msgpack.encode(dict(seen.keys))


def unpack_seen(field: bytes, value: bytes) -> SeenTransaction:
    """What ``pack_seen`` packed."""
    labelled = int.from_bytes(value[9:17], "little", signed=True)
    return SeenTransaction(
        event=int.from_bytes(field, "little", signed=True),
        time=int.from_bytes(value[:8], "little", signed=True),
        keys=_KEYS.decode(value[17:]),
        fraud=value[8],
        labelled=None if labelled == _NEVER else labelled,
    )


def instances(callers: Sequence[str], epoch: int) -> NDArray[np.int64]:
    """(n,) what tells apart events of the same transaction id (see ``event_ids``): who sent it, and
    in which idempotency window. The same on every router, and while Redis cannot be asked."""
    known = dict.fromkeys(callers)
    hashes = name_hashes(pa.array([f"{epoch}:{caller}" for caller in known], pa.string()))
    of = dict(zip(known, (hashes & 0xFFFF).tolist(), strict=True))
    return np.array([of[caller] for caller in callers], np.int64)


def eight_bytes(numbers: NDArray[np.int64]) -> list[bytes]:
    """Each number as Redis keeps it."""
    data = numbers.astype("<i8").tobytes()
    return [data[at : at + 8] for at in range(0, len(data), 8)]


def cut(records: Records) -> list[bytes]:
    """Each record as Redis keeps it."""
    data, size = records.tobytes(), RECORD.itemsize
    return [data[at : at + size] for at in range(0, len(data), size)]


def by_entity(keys: Mapping[str, Sequence[str]], row: int) -> dict[str, str]:
    """The entity keys of one row."""
    return {entity: column[row] for entity, column in keys.items()}


def _int64(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)
