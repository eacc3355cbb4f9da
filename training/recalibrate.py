"""``sentinel recalibrate``: the novelty lane's window, moved to the latest rows that are known.

What is usual changes, and with it the rate at which a fixed bound raises false alarms. The window
is taken anew from legitimate rows whose labels are known: younger ones still hold frauds that
nobody has reported, which would hide the next. Nothing else of the bundle changes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinel.bundle import Bundle, write_bundle
from sentinel.calibration import NoveltyCalibration
from sentinel.errors import TableError
from sentinel.feature_specs import microseconds_of
from sentinel.history import history_of, table_features
from sentinel.manifest import NoveltyEntry
from sentinel.scoring import NOVELTY_LANE
from sentinel.table import LabelledTable
from training.fit import NOVELTY_WINDOW

LEAST_ROWS = 1_000
"""Fewer say nothing about a rate of a few in a thousand."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """The new bundle: its digest, and how many rows its window has, from when to when."""

    model_version: str
    rows: int
    first: str | None
    last: str | None


def recalibrate(bundle: Bundle, table: LabelledTable, uri: str) -> Recalibrated:
    """Writes the bundle anew with a window of the table's latest legitimate rows that are older
    than the label delay, at most ``NOVELTY_WINDOW``.

    :raises TableError: fewer than ``LEAST_ROWS`` rows are left.
    :raises BundleError: it cannot be written there.
    """
    rows = known_legitimate(table)
    if len(rows) < LEAST_ROWS:
        raise TableError(
            f"{table.origin}: {len(rows):,} legitimate rows are older than the label delay, "
            f"expected {LEAST_ROWS:,} or more"
        )
    features, _ = table_features(table, history_of(bundle, labels_come=False))
    score = bundle.lane(NOVELTY_LANE).score(np.ascontiguousarray(features[rows]))
    window = NoveltyCalibration(score)
    manifest = bundle.manifest
    entry = NoveltyEntry(file=manifest.novelty.file, rows=len(window))
    first, last = table.time_of(int(rows[0])), table.time_of(int(rows[-1]))
    step = {"step": "novelty window moved", "window": len(window), "from": first, "until": last}
    changed = {"novelty": entry, "steps": (*manifest.steps, step)}
    files = {**bundle.files, entry.file: window.to_bytes()}
    digest = write_bundle(uri, manifest.model_copy(update=changed), files)
    return Recalibrated(digest, len(window), first, last)


def known_legitimate(table: LabelledTable) -> NDArray[np.intp]:
    """The latest legitimate rows whose labels are known at the table's end, ascending."""
    times = table.transactions.times
    end = len(table)
    if times is not None:
        delay = microseconds_of(table.description.behaviour.label_delay)
        end = int(np.searchsorted(times, times[-1] - delay))
    return np.flatnonzero(table.labels[:end] == 0)[-NOVELTY_WINDOW:]
