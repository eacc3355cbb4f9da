"""Whether rows are in time order is found piece by piece."""

import numpy as np
import pyarrow as pa
import pytest

from deployments.time_order import extent_of, layout_of

BAD = -1
"""A time that stands for a row that cannot be used."""


def table(*times: int) -> pa.Table:
    good = [time != BAD for time in times]
    return pa.table(
        {
            "row": np.arange(len(times)),
            "time": pa.array(times, pa.int64(), mask=~np.array(good, bool)),
            "error": pa.array([None if fine else "bad" for fine in good], pa.string()),
        }
    )


@pytest.mark.parametrize(
    ("pieces", "in_order"),
    [
        ([[1, 2], [2, 2], [3]], True),
        ([[1, 3], [2]], False),
        ([[1, 3, 2]], False),
        ([[1, 2], [BAD, 3]], True),
        ([[1, 2], [BAD], [3]], True),
        ([[5], [BAD, BAD], [4]], False),
        ([[5], [], [4]], False),
        ([[BAD]], True),
        ([[]], True),
    ],
)
def test_order_is_known_over_pieces_and_bad_rows_do_not_count(
    pieces: list[list[int]], in_order: bool
) -> None:
    layout = layout_of([extent_of([table(*times)]) for times in pieces])
    assert layout.in_order == in_order
    assert layout.rows == sum(map(len, pieces))


def test_a_piece_that_is_read_in_several_tables_is_one() -> None:
    assert extent_of([table(1, 2), table(3)]).in_order
    assert not extent_of([table(1, 3), table(2)]).in_order


def test_rows_without_times_are_in_order() -> None:
    assert extent_of([table(3, 1).drop_columns(["time"])]).in_order


def test_the_piece_of_a_row_is_found() -> None:
    layout = layout_of([extent_of([table(*range(size))]) for size in (3, 0, 2, 4)])
    assert layout.firsts == [0, 3, 3, 5]
    assert [layout.piece_of(row) for row in (0, 2, 3, 4, 5, 8)] == [0, 0, 2, 2, 3, 3]
