"""A ratio may fall to its band, and not below it."""

from pathlib import Path

import msgspec
import pytest

from loadtest.cells import ServeBench
from loadtest.quick_bench import (
    BANDS,
    Slower,
    check_bands,
    committed_ratios,
    compare,
    compared_table,
)
from sentinel.errors import UsageError

ROOT = Path(__file__).parents[2]
ONE = "sentinel/limit, single, 64 connections"


def test_a_ratio_passes_down_to_its_band_and_however_far_above() -> None:
    bands = {ONE: 0.6}
    for measured in (0.12, 0.2, 5.0):
        check_bands(compare({ONE: 0.2}, {ONE: measured}, bands))
    with pytest.raises(Slower, match=r"64 connections is 0\.119, expected 0\.120"):
        check_bands(compare({ONE: 0.2}, {ONE: 0.119}, bands))


def test_every_ratio_below_its_band_is_named() -> None:
    names = list(BANDS)
    slow = compare(dict.fromkeys(names, 1.0), dict.fromkeys(names, 0.1))
    with pytest.raises(Slower) as refused:
        check_bands(slow)
    assert all(name in str(refused.value) for name in names)
    assert len(compared_table(slow)[1]) == len(names)


def test_ratios_that_only_one_side_has_are_left_out_and_none_at_all_is_refused() -> None:
    compared = compare({ONE: 0.2, "sentinel/reference": 9.0}, {ONE: 0.2})
    assert [each.ratio for each in compared] == [ONE]
    with pytest.raises(UsageError):
        compare({"sentinel/reference": 9.0}, {ONE: 0.2})


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "serving.json"
    for content in (None, b"{", b'{"core": []}'):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UsageError, match="no result"):
            committed_ratios(file)
    bench = ServeBench({}, {}, [], {ONE: 0.2})
    file.write_bytes(msgspec.json.encode(bench))
    assert committed_ratios(file) == {ONE: 0.2}


def test_the_committed_result_has_every_ratio_that_is_banded() -> None:
    assert set(BANDS) <= set(committed_ratios(ROOT / "bench" / "serving.json"))
