"""Whether the rows of an input are in time order, and how many there are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa

from sentinel.row_tables import TIME, good_rows


@dataclass(frozen=True, slots=True)
class Extent:
    """What must be known of a piece of the input. Times in microseconds, of its good rows;
    ``None`` without any."""

    rows: int
    first: int | None = None
    last: int | None = None
    in_order: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each piece begins in the whole input, and whether all rows stand in time order."""

    firsts: Sequence[int]
    rows: int
    in_order: bool

    def piece_of(self, row: int) -> int:
        """The piece that holds this row, or is the last."""
        return max(0, int(np.searchsorted(self.firsts, row, side="right")) - 1)


def extent_of(tables: Iterable[pa.Table]) -> Extent:
    """The extent of one piece, from its rows (see ``row_tables``)."""
    return _together([_extent(table) for table in tables])


def layout_of(extents: Sequence[Extent]) -> Layout:
    """The layout of all pieces, in order."""
    ends = list(accumulate(extent.rows for extent in extents))
    whole = _together(extents)
    return Layout([0, *ends[:-1]], whole.rows, whole.in_order)


def _extent(table: pa.Table) -> Extent:
    good = good_rows(table)
    if TIME not in table.column_names or not len(good):
        return Extent(table.num_rows)
    times = table.column(TIME).take(pa.array(good)).to_numpy()
    in_order = not (np.diff(times) < 0).any()
    return Extent(table.num_rows, int(times[0]), int(times[-1]), in_order)


def _together(extents: Sequence[Extent]) -> Extent:
    """One extent of several that follow one another."""
    timed = [each for each in extents if each.first is not None]
    ends = [each.last for each in timed]
    follows = all(
        before is None or each.first is None or before <= each.first
        for before, each in zip(ends, timed[1:], strict=False)
    )
    return Extent(
        rows=sum(each.rows for each in extents),
        first=timed[0].first if timed else None,
        last=timed[-1].last if timed else None,
        in_order=follows and all(each.in_order for each in timed),
    )
