"""How large an Arrow stream is once it is read, asked before anything reads it.

A few hundred bytes can stand for any number of rows (columns of nulls have no data), and a
compressed megabyte for gigabytes. pyarrow has no limit to give, so the sizes are taken from where
the format states them: rows in the metadata of each batch (a flatbuffer), and, where a batch is
compressed, the length of every buffer before its bytes. Layout: ``Message.fbs`` of Apache Arrow.
"""

import struct
from dataclasses import dataclass

import pyarrow as pa

_MESSAGE_HEADER = 2
_DICTIONARY_DATA = 1
_BATCH_LENGTH, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 2, 3


@dataclass(frozen=True, slots=True)
class StreamSize:
    """``rows`` of all record batches; ``data`` bytes of all buffers, uncompressed."""

    rows: int
    data: int


def stream_size(body: bytes) -> StreamSize:
    """What this Arrow IPC stream says it holds.

    :raises ValueError: it is no such stream. One that says nothing false to this function may
        still be malformed; it may not be larger than it says, or Arrow refuses it.
    """
    rows = data = 0
    try:
        for message in pa.ipc.MessageReader.open_stream(body):
            if message.type not in ("record batch", "dictionary batch"):
                continue
            batch = _Table.root(message.metadata.to_pybytes()).table(_MESSAGE_HEADER)
            if message.type == "dictionary batch":
                batch = batch.table(_DICTIONARY_DATA)
            else:
                rows += batch.int64(_BATCH_LENGTH)
            data += _uncompressed(batch, message.body)
    except (pa.ArrowException, OSError, struct.error, IndexError) as error:
        raise ValueError("not an Arrow IPC stream") from error
    return StreamSize(rows, data)


def _uncompressed(batch: "_Table", body: pa.Buffer) -> int:
    if not batch.has(_BATCH_COMPRESSION):
        return body.size
    total = 0
    for offset, length in batch.pairs(_BATCH_BUFFERS):
        if length == 0:
            continue
        (stated,) = struct.unpack_from("<q", body, offset)
        total += length if stated < 0 else stated  # -1: this buffer was left as it is
    return total


@dataclass(frozen=True, slots=True)
class _Table:
    """A table inside a flatbuffer: its fields by their number."""

    buffer: bytes
    at: int

    @classmethod
    def root(cls, buffer: bytes) -> "_Table":
        (at,) = struct.unpack_from("<I", buffer, 0)
        return cls(buffer, at)

    def has(self, field: int) -> bool:
        return self._place(field) != 0

    def int64(self, field: int) -> int:
        """The number in this field; 0 where it is left out."""
        place = self._place(field)
        return struct.unpack_from("<q", self.buffer, place)[0] if place else 0

    def table(self, field: int) -> "_Table":
        place = self._place(field)
        return _Table(self.buffer, self._target(place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two int64."""
        place = self._place(field)
        if not place:
            return []
        start = self._target(place)
        (count,) = struct.unpack_from("<I", self.buffer, start)
        return list(struct.iter_unpack("<qq", self.buffer[start + 4 : start + 4 + 16 * count]))

    def _place(self, field: int) -> int:
        """Where the field's value stands, or 0 if it is left out."""
        (back,) = struct.unpack_from("<i", self.buffer, self.at)
        vtable = self.at - back
        (size,) = struct.unpack_from("<H", self.buffer, vtable)
        slot = 4 + 2 * field
        if slot + 2 > size:
            return 0
        (offset,) = struct.unpack_from("<H", self.buffer, vtable + slot)
        return self.at + offset if offset else 0

    def _target(self, place: int) -> int:
        (offset,) = struct.unpack_from("<I", self.buffer, place)
        return place + offset
