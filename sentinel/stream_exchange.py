"""What a stream's worker and a router say to each other, and how it travels: as Arrow.

The worker has parsed its records by the router's own description and hands over columns, so nothing
is checked twice; the router hands back decisions as columns, which the worker writes out by the
same functions as everybody. Both belong to one release: what travels has no version of its own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription
from sentinel.errors import FieldError
from sentinel.scoring import Decisions
from sentinel.transactions import Transactions

KAFKA = "kafka:"
"""Before the name of a topic in a caller's name; no caller by HTTP has it, whatever its key."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What transactions are read by; ``schema`` changes whenever the description does."""

    description: DatasetDescription
    schema: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of n transactions: ``decisions`` (see ``pack_decisions``) on those at the
    positions ``rows`` (ascending), and why each of the others was ``refused`` (its ``index``)."""

    decisions: bytes
    rows: NDArray[np.intp]
    refused: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """What became of labels: ``outcomes`` of the good ones in order, ``refused`` those that are
    none (``index`` counts all of them)."""

    outcomes: tuple[str, ...]
    refused: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class TryLater:
    """There is no room now (``bound`` names what is full): the same again after ``seconds``."""

    seconds: float
    bound: str


@dataclass(frozen=True, slots=True)
class OtherContract:
    """These transactions were read by another description than the one that is served now."""

    contract: Contract


def contract_of(description: DatasetDescription) -> Contract:
    """The contract of whoever reads by this description."""
    text = description.model_dump_json()
    return Contract(description, hashlib.sha256(text.encode()).hexdigest())


def pack(transactions: Transactions) -> bytes:
    """n transactions as an Arrow stream."""
    columns: dict[str, Any] = {"id": transactions.ids}
    if transactions.times is not None:
        columns["time"] = pa.array(transactions.times)
    columns |= {f"entity {name}": keys for name, keys in transactions.entities.items()}
    numbers = np.ascontiguousarray(transactions.numbers.T)
    columns |= {f"number {at}": pa.array(column) for at, column in enumerate(numbers)}
    return _written(pa.table(columns))


def unpack(stream: bytes) -> Transactions:
    """The transactions that ``pack`` wrote."""
    columns, _ = _read(stream)
    numbers = [_numpy(column) for name, column in columns.items() if name.startswith("number ")]
    return Transactions(
        ids=columns["id"],
        times=_numpy(columns["time"]) if "time" in columns else None,
        entities={
            name.removeprefix("entity "): column
            for name, column in columns.items()
            if name.startswith("entity ")
        },
        numbers=np.column_stack(numbers) if numbers else np.empty((len(columns["id"]), 0)),
    )


def pack_decisions(decisions: Decisions) -> bytes:
    """n decisions as an Arrow stream: reasons and versions, which are few, by number."""
    reasons, reason_codes = _numbered(decisions.reasons)
    versions, version_codes = _numbered(decisions.model_version)
    columns = {name: getattr(decisions, name) for name in _NUMBERS}
    columns |= {"reasons": reason_codes, "model_version": version_codes}
    columns["degraded"] = decisions.degraded.view(np.int8)
    table = pa.table({"id": decisions.ids} | {n: pa.array(c) for n, c in columns.items()})
    named = {"reasons": msgspec.json.encode(reasons), "versions": msgspec.json.encode(versions)}
    return _written(table.replace_schema_metadata(named))


def unpack_decisions(stream: bytes) -> Decisions:
    """The decisions that ``pack_decisions`` wrote."""
    columns, named = _read(stream)
    reasons = msgspec.json.decode(named[b"reasons"], type=list[tuple[str, ...]])
    versions = msgspec.json.decode(named[b"versions"], type=list[str])
    return Decisions(
        ids=columns["id"],
        **{name: _numpy(columns[name]) for name in _NUMBERS},
        reasons=_objects(reasons)[_numpy(columns["reasons"])],
        model_version=_objects(versions)[_numpy(columns["model_version"])],
        degraded=_numpy(columns["degraded"]).view(np.bool_),
    )


_NUMBERS = ("decision", "fraud_probability", "anomaly_score", "novelty_p")


def _numbered(values: NDArray[np.object_]) -> tuple[list[Any], NDArray[np.int32]]:
    """The different values, and (n,) which of them each is."""
    known: dict[Any, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values.tolist()]
    return list(known), np.array(codes, np.int32)


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), np.object_)
    for at, value in enumerate(values):  # at once, numpy would make a matrix of tuples
        array[at] = value
    return array


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _read(stream: bytes) -> tuple[dict[str, Any], dict[bytes, bytes]]:
    """Columns, each in one piece and not copied, and the schema's metadata."""
    with pa.ipc.open_stream(stream) as reader:
        table = reader.read_all()
    columns = {name: _whole(table.column(name)) for name in table.column_names}
    return columns, table.schema.metadata or {}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numpy(column: pa.Array) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)
