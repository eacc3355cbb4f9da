"""The rows of an input by Ray Data: read and parsed in parallel, handed over in order.

Workers import this module to read; it needs neither models nor profiles.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset

from deployments.time_order import Extent, Layout, extent_of, layout_of
from sentinel.input_files import Piece, RowReader
from sentinel.row_tables import ROW, TIME, good_rows

READER_CPUS = 0.25
"""Share of a processor that a reader asks for, so that there is room for it beside scorers; it is
done with a batch in a tenth of their time."""

Batches = Generator[pa.Table, None, None]


class RowSource:
    """The rows of some pieces; tables are as ``row_tables`` describes them."""

    def __init__(self, pieces: Sequence[Piece], reader: RowReader, cpus: int) -> None:
        self._pieces = pieces
        self._reader = reader
        self._readers = max(1, cpus // 2)
        _set_up_ray_data()

    def survey(self, *, timed: bool) -> Layout:
        """How many rows there are, and if they are ``timed``, whether they are in time order.

        Reads everything, where that cannot be known otherwise.

        :raises TableError: a file cannot be used.
        """
        known = [Extent(piece.rows) for piece in self._pieces if piece.rows is not None]
        if len(known) == len(self._pieces) and not (known and timed):
            return layout_of(known)
        items = [{"piece": at} for at in range(len(self._pieces))]
        look = partial(_extent_of, reader=self._reader, pieces=self._pieces)
        found = ray.data.from_items(items, override_num_blocks=len(items)).map(look)
        extents = {row["piece"]: row["extent"] for row in found.take_all()}
        return layout_of([Extent(*extents[at]) for at in range(len(items))])

    def batches(self, layout: Layout, start: int, size: int) -> Batches:
        """The rows of the input from row ``start`` on, in order, so many at once; of an input
        without rows one batch without rows.

        To be closed while there is still a Ray, also where it was not read to its end.
        """
        if layout.rows:
            yield from _cut(self._read(layout, start, good=False), size)
        else:
            yield self._reader.empty()

    def batches_by_time(self, layout: Layout, size: int) -> Batches:
        """The good rows of the input in time order, so many at once; those of the same time in the
        order of the input. To be closed as ``batches``."""
        return _cut(self._read(layout, 0, good=True).sort([TIME, ROW]), size)

    def _read(self, layout: Layout, start: int, *, good: bool) -> Dataset:
        firsts = layout.firsts
        items = [
            {"piece": at, "first": firsts[at]} for at in range(layout.piece_of(start), len(firsts))
        ]
        read = partial(_read, reader=self._reader, pieces=self._pieces, start=start, good=good)
        return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            read,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READER_CPUS,
            concurrency=self._readers,
        )


def _extent_of(item: dict[str, int], reader: RowReader, pieces: Sequence[Piece]) -> dict[str, Any]:
    at = item["piece"]
    extent = extent_of(reader.tables(pieces[at], 0))
    return {"piece": at, "extent": [extent.rows, extent.first, extent.last, extent.in_order]}


def _read(
    batch: pa.Table, reader: RowReader, pieces: Sequence[Piece], start: int, good: bool
) -> Iterator[pa.Table]:
    """The rows of one piece, from row ``start`` of the input on."""
    (item,) = batch.to_pylist()
    first = item["first"]
    for table in reader.tables(pieces[item["piece"]], first):
        rows = table.slice(max(0, start - first))
        first += len(table)
        yield rows.take(pa.array(good_rows(rows))) if good else rows


def _cut(rows: Dataset, size: int) -> Batches:
    """In order, and all of one size but the last."""
    yield from rows.iter_batches(batch_size=size, batch_format="pyarrow", prefetch_batches=2)


def _set_up_ray_data() -> None:
    """In order, and in silence."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
