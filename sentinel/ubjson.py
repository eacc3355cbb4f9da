"""A reader of UBJSON, as far as XGBoost writes it, for bytes that nobody has vouched for.

XGBoost's own reader takes its input on trust: an empty file ends the process, a damaged one may
crash it. Here every length is held against what there is.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS: dict[bytes, np.dtype[Any]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_DEEPEST = 50
"""Containers in containers; a model has eight."""


def read_ubjson(data: bytes) -> Any:
    """The one value in these bytes; arrays of one kind of number are NumPy arrays.

    :raises ValueError: cut off, too deep, followed by something, or not UBJSON.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise ValueError(f"it ends at byte {reader.at} of {len(data)}")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        marker = self._take(1)
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0].item()
        if marker == b"S":
            return self._text()
        if depth > _DEEPEST:
            raise ValueError(f"byte {self.at} is more than {_DEEPEST} containers deep")
        if marker == b"{":
            return self._object(depth + 1)
        if marker == b"[":
            return self._array(depth + 1)
        raise ValueError(f"byte {self.at - 1} is {marker!r}, expected the kind of a value")

    def _take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._data):
            raise ValueError(f"what starts at byte {start} is cut off")
        return self._data[start : self.at]

    def _size(self) -> int:
        size = self.value(_DEEPEST)
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"{size!r} before byte {self.at} is no length")
        return size

    def _numbers(self, kind: bytes, size: int) -> NDArray[Any]:
        dtype = _NUMBERS.get(kind)
        if dtype is None:
            raise ValueError(f"byte {self.at} is in an array of {kind!r}, expected numbers")
        return np.frombuffer(self._take(size * dtype.itemsize), dtype)

    def _text(self) -> str:
        return self._take(self._size()).decode()

    def _object(self, depth: int) -> dict[str, Any]:
        found = {}
        while self._data[self.at : self.at + 1] != b"}":
            name = self._text()
            found[name] = self.value(depth)
        self.at += 1
        return found

    def _array(self, depth: int) -> Any:
        head, kind = self._take(1), b""
        if head == b"$":
            kind, head = self._take(1), self._take(1)
        if head != b"#":
            raise ValueError(f"byte {self.at - 1} is {head!r}, expected the length of an array")
        size = self._size()
        return self._numbers(kind, size) if kind else [self.value(depth) for _ in range(size)]
