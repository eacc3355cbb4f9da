"""A ratio may fall to its band, and not below it."""

from pathlib import Path

import msgspec
import pytest

from loadtest.cells import Row, ServeBench
from loadtest.quick_bench import (
    RATE_BAND,
    SHAPES,
    WORK_BAND,
    Compared,
    Slower,
    banded,
    check_bands,
    compare,
    compared_table,
    read_result,
)
from sentinel.errors import UsageError

ROOT = Path(__file__).parents[2]
ONE = "sentinel/limit, single, 64 connections"
WORK = "limit/sentinel, single, 64 connections, processor time"


def row(name: str, rate: float, cpu_us: float | None, connections: int = 64) -> Row:
    return Row(name, "single", connections, rate, rate, 1, 2, 3, 0, cpu_us)


def bench(own: Row | None, limit: Row | None) -> ServeBench:
    return ServeBench({"sentinel": own, "limit": limit}, {}, [], {})


def test_a_ratio_passes_down_to_its_band_and_however_far_above() -> None:
    before = bench(row("sentinel", 300, 900), row("limit", 1_000, 300))
    for rate, work in ((300 * RATE_BAND, 900 / WORK_BAND - 5), (300, 900), (2_000, 100)):
        check_bands(compare(before, bench(row("sentinel", rate, work), row("limit", 1_000, 300))))


def test_fewer_requests_than_the_band_are_refused_and_more_work_than_its_band_too() -> None:
    before = bench(row("sentinel", 300, 900), row("limit", 1_000, 300))
    for own, said in (
        (row("sentinel", 300 * RATE_BAND - 2, 900), ONE),
        (row("sentinel", 300, 900 / WORK_BAND + 10), WORK),
    ):
        with pytest.raises(Slower, match=said):
            check_bands(compare(before, bench(own, row("limit", 1_000, 300))))


def test_every_ratio_below_its_band_is_named() -> None:
    slow = [Compared("a/b", 1.0, 0.1, 0.5), Compared("c/d", 1.0, 0.2, 0.5)]
    with pytest.raises(Slower, match=r"a/b is 0\.100, expected 0\.500; c/d is 0\.200"):
        check_bands(slow)
    assert len(compared_table(slow)[1]) == 2


def test_a_ratio_that_only_one_side_has_is_left_out_and_none_at_all_is_refused() -> None:
    whole = bench(row("sentinel", 300, 900), row("limit", 1_000, 300))
    older = bench(row("sentinel", 300, None), row("limit", 1_000, None))
    assert [each.ratio for each in compare(older, whole)] == [ONE]
    with pytest.raises(UsageError):
        compare(bench(None, row("limit", 1_000, 300)), whole)


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "serving.json"
    for content in (None, b"{", b'{"core": []}'):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UsageError, match="no result"):
            read_result(file)
    result = bench(row("sentinel", 300, 900), row("limit", 1_000, 300))
    file.write_bytes(msgspec.json.encode(result))
    assert read_result(file) == result


def test_the_committed_result_has_a_ratio_of_every_shape_that_is_compared() -> None:
    ratios = banded(read_result(ROOT / "bench" / "serving.json"))
    assert {f"sentinel/limit, {shape}" for shape in SHAPES} <= set(ratios)
