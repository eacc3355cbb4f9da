"""Profiles as bytes: what a bundle carries, what a store is filled from and saves.

MessagePack around Arrow IPC streams with zstd: for each entity key its keys and records, and the
transactions that a label may still come for. The same profiles give the same bytes.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.errors import BundleError
from sentinel.profile_store import MemoryStore, SeenTransaction
from sentinel.records import RECORD, RECORDS_VERSION, Records

FORMAT = "sentinelstream-profiles"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


class _Entity(msgspec.Struct):
    keys: bytes
    """Columns ``key`` and ``length``: how many of ``records`` are this key's."""
    records: bytes


class _Snapshot(msgspec.Struct, tag=FORMAT, tag_field="format"):
    version: int
    newest: int | None
    """Time of the newest event."""
    entities: dict[str, _Entity]
    seen: bytes


_DECODER = msgspec.msgpack.Decoder(_Snapshot)


def snapshot(store: MemoryStore, since: int | None = None) -> bytes:
    """All profiles of a store, less records older than ``since`` (microseconds since 1970)."""
    newest = store.profiles.newest
    entities = {}
    for name, log in sorted(store.profiles.logs.items()):
        kept = {}
        for key, records in log.items():
            young = records if since is None else records[records["time"] > since]
            if len(young):
                kept[key] = young
        entities[name] = _pack(kept)
    seen = [(n, each) for n, each in store.seen.items() if since is None or each.time > since]
    return msgspec.msgpack.encode(
        _Snapshot(RECORDS_VERSION, newest, entities, _pack_seen(seen, sorted(entities)))
    )


def restore(
    data: bytes, store: MemoryStore, only: set[str] | None = None, *, seen: bool = True
) -> int | None:
    """Puts the profiles of a snapshot into a store; the time of its newest event.

    ``only`` these entity keys. ``seen``: also where the transactions are that a label may come for,
    which takes longer than all the rest. An entity that the store has already is replaced.

    :raises BundleError: these bytes are no snapshot that this release reads.
    """
    try:
        content = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"no snapshot of profiles: {error}") from error
    if content.version != RECORDS_VERSION:
        raise BundleError(
            f"profiles have version {content.version}, this release reads {RECORDS_VERSION}"
        )
    try:
        for name, packed in content.entities.items():
            if only is None or name in only:
                store.profiles.log(name).load(*_unpack(packed))
        for event_name, each in _unpack_seen(content.seen) if seen else ():
            store.seen.put(event_name, each)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise BundleError(f"no snapshot of profiles: {' '.join(str(error).split())}") from error
    return content.newest


def _pack(entities: Mapping[str, Records]) -> _Entity:
    lengths = np.array([len(records) for records in entities.values()], np.int64)
    keys = {"key": pa.array(list(entities), pa.string()), "length": pa.array(lengths)}
    every = np.concatenate([np.empty(0, RECORD), *entities.values()])
    columns = {name: np.ascontiguousarray(every[name]) for name in RECORD.names or ()}
    # Differences of times are small, and compress to half of what the times do.
    columns["time"] = np.diff(columns["time"], prepend=0)
    return _Entity(_to_ipc(keys), _to_ipc(columns))


def _unpack(packed: _Entity) -> tuple[list[str], NDArray[np.int64], Records]:
    keys, columns = _from_ipc(packed.keys), _from_ipc(packed.records)
    records = np.empty(columns.num_rows, RECORD)
    for name in RECORD.names or ():
        records[name] = _numbers(columns, name, RECORD[name])
    records["time"] = np.cumsum(records["time"])
    lengths = _numbers(keys, "length", np.dtype(np.int64))
    if keys.column("key").null_count or lengths.sum() != len(records) or (lengths < 0).any():
        raise ValueError("its keys and its records do not fit each other")
    return keys.column("key").to_pylist(), lengths, records


def _pack_seen(seen: list[tuple[int, SeenTransaction]], entities: list[str]) -> bytes:
    columns: dict[str, Any] = {
        "name": np.array([name for name, _ in seen], np.int64),
        "event": np.array([each.event for _, each in seen], np.int64),
        "time": np.diff(np.array([each.time for _, each in seen], np.int64), prepend=0),
        "fraud": np.array([each.fraud for _, each in seen], np.uint8),
    }
    for entity in entities:
        keys = pa.array([each.keys.get(entity) for _, each in seen], pa.string())
        columns[f"key:{entity}"] = keys.dictionary_encode()
    return _to_ipc(columns)


def _unpack_seen(data: bytes) -> list[tuple[int, SeenTransaction]]:
    table = _from_ipc(data)
    entities = [name[4:] for name in table.column_names if name.startswith("key:")]
    keys = [table.column(f"key:{entity}").to_pylist() for entity in entities]
    names, events, times = (_numbers(table, n, RECORD["id"]) for n in ("name", "event", "time"))
    frauds = _numbers(table, "fraud", np.dtype(np.uint8)).tolist()
    numbers = (names.tolist(), events.tolist(), np.cumsum(times).tolist(), frauds)
    rows = zip(*numbers, *keys, strict=True)
    return [
        (
            name,
            SeenTransaction(
                event, time, {e: k for e, k in zip(entities, row, strict=True) if k}, fraud
            ),
        )
        for name, event, time, fraud, *row in rows
    ]


def _numbers(table: pa.Table, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
    """A column of whole numbers of this kind, none missing."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"a row has no {name}")
    return column.cast(pa.from_numpy_dtype(kind)).to_numpy()


def _to_ipc(columns: Mapping[str, Any]) -> bytes:
    table = pa.table(dict(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_ipc(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all().combine_chunks()
    table.validate(full=True)  # or offsets that lie would be followed
    return table
