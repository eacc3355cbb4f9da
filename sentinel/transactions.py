"""Transactions as typed columns: what every step after the edge works on.

A transaction is never an object of its own. A single request is n = 1, a Kafka batch thousands,
a training table a million; all of them have this one shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Transactions:
    """n >= 0 transactions that fit one dataset description.

    ``ids`` (n,) strings; ``times`` (n,) int64, microseconds since 1970 in UTC, or ``None`` where
    the description has no time field; ``entities`` a string column for each entity key;
    ``numbers`` (n, k) float64 in the order of ``DatasetDescription.numbers``: finite, or NaN where
    an optional field is missing; booleans are 0 and 1, a category is the position of its value.
    """

    ids: pa.StringArray
    times: NDArray[np.int64] | None
    entities: Mapping[str, pa.StringArray]
    numbers: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Transactions":
        """These rows, in the given order (indices, a mask, or a slice)."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        elif rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        indices = pa.array(rows)
        return Transactions(
            ids=self.ids.take(indices),
            times=None if self.times is None else self.times[rows],
            entities={name: column.take(indices) for name, column in self.entities.items()},
            numbers=self.numbers[rows],
        )


def concatenate(parts: Sequence[Transactions]) -> Transactions:
    """All rows of one or more tables of the same description, in order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    times = [part.times for part in parts if part.times is not None]
    return Transactions(
        ids=pa.concat_arrays([part.ids for part in parts]),
        times=np.concatenate(times) if times else None,
        entities={
            name: pa.concat_arrays([part.entities[name] for part in parts])
            for name in first.entities
        },
        numbers=np.concatenate([part.numbers for part in parts]),
    )
