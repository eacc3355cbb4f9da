"""``sentinel benchmark handbook`` on a small simulation: the shape of what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentinel.dataset import load_description
from sentinel.errors import TableError
from sentinel.table import read_table
from training.generate import Simulation, simulate, write
from training.handbook import BASELINE, LONGER, OURS, TABLES, benchmark_handbook
from training.protocol import FIGURES, VALIDATION
from training.published import PUBLISHED, published_features
from training.weekly import BEST_THRESHOLD


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the first of April to the last day of the last validation week, 2018-07-31."""
    file = tmp_path_factory.mktemp("handbook") / "transactions.parquet"
    write(simulate(Simulation(days=122, customers=300, terminals=300, seed=5)), file)
    return file


@pytest.fixture(scope="module")
def result(file: Path) -> dict[str, Any]:
    return benchmark_handbook(str(file))


def test_every_model_has_its_figures_in_every_validation_week(result: dict[str, Any]) -> None:
    weeks = result["validation"]["weeks"]
    starts = [start.isoformat() for start in VALIDATION]
    assert [(week["train_start"], week["model"]) for week in weeks] == [
        (start, model) for start in starts for model in (BASELINE, OURS, LONGER)
    ]
    assert all(0 <= week[figure] <= 1 for week in weeks for figure in FIGURES)


def test_the_mean_of_a_model_is_that_of_its_weeks(result: dict[str, Any]) -> None:
    part = result["validation"]
    assert set(part["mean"]) == {BASELINE, OURS, LONGER}
    for model, means in part["mean"].items():
        for figure in FIGURES:
            mine = [week[figure] for week in part["weeks"] if week["model"] == model]
            assert means[figure] == pytest.approx(np.mean(mine))


def test_there_are_no_test_weeks_in_a_file_that_ends_before_them(result: dict[str, Any]) -> None:
    assert result["test"] is None


def test_published_figures_stand_apart(result: dict[str, Any]) -> None:
    assert set(result["published"]["models"]) == set(PUBLISHED)
    assert result["published"]["models"]["XGBoost"]["average_precision"] == 0.687


def test_a_week_is_told_with_its_calibration_and_cost(result: dict[str, Any]) -> None:
    part = result["validation"]
    assert len(part["calibration"]) == len(part["cost"]["weeks"]) == len(VALIDATION)
    assert {"share", "per_1000"} == set(part["cost"]["saved"][BEST_THRESHOLD])


def test_every_table_for_people_has_a_cell_for_each_column(result: dict[str, Any]) -> None:
    for _, columns, rows in TABLES:
        made = list(rows(result))
        assert made
        assert {len(row) for row in made} == {len(columns)}


def test_the_published_features_are_the_handbooks_fifteen(file: Path) -> None:
    table = read_table(str(file), load_description("transactions"))
    features = published_features(table)
    assert features.shape == (len(table), 15)
    assert not np.isnan(features).any()


def test_a_file_that_ends_before_the_validation_weeks_do_is_refused(
    file: Path, tmp_path: Path
) -> None:
    early = tmp_path / "early.parquet"
    whole = pq.read_table(file)
    pq.write_table(whole.slice(0, whole.num_rows // 2), early)
    with pytest.raises(TableError, match=r"ends on 2018-0.-..; the protocol's validation weeks"):
        benchmark_handbook(str(early))
