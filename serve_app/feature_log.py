"""A log of the features that models saw, to hold them against offline ones.

Skew between training and serving cannot be seen in answers; this shows it, or that there is none.
An Arrow IPC stream for each router and bundle, a batch a flight: ``transaction_id``, ``degraded``
and a float32 column for each feature. What a killed router wrote last may be cut short;
``read_features`` reads up to there.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.errors import SentinelError


class CannotLog(SentinelError):
    """The folder of the feature log cannot be written."""


class FeatureLog:
    """Writes what a router's models saw."""

    def __init__(self, folder: str) -> None:
        """:raises CannotLog: there is no such folder, or it cannot be written."""
        self._folder = Path(folder)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise CannotLog(f"feature_log: {folder} is no folder that can be written")
        self._streams: dict[str, tuple[pa.OSFile, pa.ipc.RecordBatchStreamWriter]] = {}

    def write(
        self,
        bundle: str,
        names: tuple[str, ...],
        ids: pa.StringArray,
        features: NDArray[np.float32],
        degraded: bool,
    ) -> None:
        """Adds (n, f) features of these transactions."""
        columns = {
            "transaction_id": ids,
            "degraded": pa.array(np.full(len(ids), degraded)),
            **{name: pa.array(features[:, at]) for at, name in enumerate(names)},
        }
        batch = pa.record_batch(columns)
        if bundle not in self._streams:
            place = self._folder / f"features-{os.getpid()}-{bundle[:12]}.arrow"
            sink = pa.OSFile(str(place), "wb")
            self._streams[bundle] = sink, pa.ipc.new_stream(sink, batch.schema)
        self._streams[bundle][1].write_batch(batch)


def read_features(folder: Path) -> pa.Table:
    """Every row of every log in the folder."""
    batches = [batch for file in sorted(folder.glob("*.arrow")) for batch in _whole_batches(file)]
    return pa.Table.from_batches(batches)


def _whole_batches(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader
    except (pa.ArrowInvalid, OSError):  # the end of a stream that was cut short
        return
