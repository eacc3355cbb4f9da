"""Records: what a profile remembers of one event, and how names become numbers in it."""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

RECORD = np.dtype(
    [
        ("time", "<i8"),
        ("amount", "<i8"),
        ("id", "<i8"),
        ("count", "<u4"),
        ("frauds", "<u4"),
        ("unusual", "<u4"),
        ("other", "<u4"),
    ]
)
"""One event of one entity, 40 bytes; also the packed form, whose layout ``RECORDS_VERSION`` names.

``time`` in microseconds since 1970; ``amount`` scaled (see ``scaled``); ``id`` tells events of the
same moment apart (see ``name_hashes``; 0 once merged); ``count`` events, of which ``frauds`` are
known frauds and ``unusual`` had an unusual amount (1 and 0 or 1, until records are merged);
``other`` is a hash of the key of the entity that ``first_at`` names.
"""

RECORDS_VERSION = 1

SCALE = 10_000.0
"""Parts of a unit that amounts are counted in: whole numbers add up the same in any order, and no
currency has more than four decimals."""

LARGEST_AMOUNT = 1e9
"""What a larger amount counts as in a profile: 900,000 of them still add up in 64 bits."""

Records = NDArray[Any]
"""(n,) of ``RECORD``."""


def scaled(amounts: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) amounts as whole numbers of 1 / ``SCALE``, at most ``LARGEST_AMOUNT`` each."""
    return np.rint(np.clip(amounts, 0, LARGEST_AMOUNT) * SCALE).astype(np.int64)


def name_hashes(names: pa.StringArray) -> NDArray[np.int64]:
    """(n,) hashes of strings, the same in every process and release; never 0.

    64 bits: of a billion names two share one with a chance of 3%, and what shares must also fall
    on the same microsecond of the same entity to be taken for the same event.
    """
    offsets = np.frombuffer(names.buffers()[1], np.int32)
    offsets = offsets[names.offset : names.offset + len(names) + 1]
    data = names.buffers()[2]
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    hashes: NDArray[np.int64] = _hashes(offsets, text)
    return hashes


def event_ids(
    names: NDArray[np.int64], instances: NDArray[np.int64] | int = 0
) -> NDArray[np.int64]:
    """(n,) ids of events, never 0: 48 bits of the hash of the transaction's id, and 16 that tell
    apart transactions of the same id that are two (another caller's, or one after the idempotency
    window)."""
    ids = (names & ~np.int64(0xFFFF)) | (np.int64(1) + (np.asarray(instances, np.int64) % 0xFFFF))
    return ids.astype(np.int64)


@njit(cache=True, nogil=True)
def _hashes(offsets: NDArray[np.int32], text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """FNV-1a, with a last stirring (murmur's) so that the low bits are good too."""
    hashes = np.empty(len(offsets) - 1, np.int64)
    for row in range(len(hashes)):
        value = np.uint64(0xCBF29CE484222325)
        for at in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        value ^= value >> np.uint64(33)
        hashes[row] = np.int64(value) if value != 0 else np.int64(1)
    return hashes
