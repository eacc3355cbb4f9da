"""``sentinel benchmark creditcard``: what a random split hides, on made-up rows with copies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sentinel.cli import build_app
from tests.conftest import creditcard_like
from training.creditcard import COLUMNS, OURS, REFERENCE, benchmark_creditcard, table_rows

COPIES = 300


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which the first are there twice, side by side: no copy lies across a cut in time."""
    table = creditcard_like(4_000, seed=9)
    rows = np.sort(np.concatenate([np.arange(4_000), np.arange(COPIES)]))
    file = tmp_path_factory.mktemp("splits") / "creditcard.parquet"
    pq.write_table(table.take(pa.array(rows)), file)
    return file


@pytest.fixture(scope="module")
def result(file: Path) -> dict[str, Any]:
    return benchmark_creditcard(str(file))


def test_both_splits_judge_the_same_number_of_rows(result: dict[str, Any]) -> None:
    for split in ("row_order", "random"):
        part = result[split]
        assert part["trained_on"] + part["judged_on"] == result["rows"] == 4_000 + COPIES
        assert part["judged_on"] == pytest.approx(0.2 * result["rows"], abs=1)


def test_copies_stand_on_both_sides_of_a_random_split_alone(result: dict[str, Any]) -> None:
    assert result["row_order"]["copies"] == 0
    # Of each pair one is judged and the other not with a chance of 2 * 0.8 * 0.2.
    assert result["random"]["copies"] == pytest.approx(0.32 * COPIES, rel=0.35)


def test_the_random_split_is_called_leaky_and_why(result: dict[str, Any]) -> None:
    assert "copies" in result["random"]["leaky"]
    assert "leaky" not in result["row_order"]


def test_our_default_is_judged_by_row_order_alone_with_all_its_figures(
    result: dict[str, Any],
) -> None:
    assert set(result["row_order"]["models"]) == {OURS, REFERENCE}
    assert set(result["random"]["models"]) == {REFERENCE}
    ours = result["row_order"]["models"][OURS]
    assert {"average_precision", "brier_skill", "regret_per_1000"} <= set(ours)
    assert ours["auroc"]["value"] > 0.8


def test_every_row_for_people_has_a_cell_for_each_column(result: dict[str, Any]) -> None:
    rows = list(table_rows(result))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_the_command_prints_the_result_as_one_object(file: Path, result: dict[str, Any]) -> None:
    told = CliRunner().invoke(
        build_app(), ["benchmark", "creditcard", "--data", str(file), "--json"]
    )
    assert told.exit_code == 0
    assert json.loads(told.stdout) == result
