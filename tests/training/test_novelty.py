"""The novelty lane looks at what compares a row with its own past, and its window can be moved."""

from pathlib import Path

import numpy as np
import pytest

from sentinel.bundle import open_bundle
from sentinel.calibration import NoveltyCalibration
from sentinel.dataset import load_description
from sentinel.errors import TableError
from sentinel.feature_specs import feature_names
from sentinel.history import table_features
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.table import LabelledTable, read_table
from training.novelty import fit_forest, novelty_columns
from training.recalibrate import known_legitimate, recalibrate

TRANSACTIONS = load_description("transactions")
NAMES = [name for spec in TRANSACTIONS.features for name in feature_names(spec)]


def test_the_lane_looks_at_no_label_and_at_nothing_that_is_not_compared_with_the_own_past() -> None:
    looked = [NAMES[at] for at in novelty_columns(TRANSACTIONS)]
    assert "customer_id_ratio_mean_30d" in looked
    assert not any("known" in name or "fraud" in name or name == "amount" for name in looked)


def test_without_behaviour_it_looks_at_all_features() -> None:
    creditcard = load_description("creditcard")
    assert len(novelty_columns(creditcard)) == len(creditcard.features)


def test_the_forest_asks_for_its_columns_of_the_whole_row() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    forest = fit_forest(rows, np.array([2, 5]), 0)
    assert forest.features == 6
    assert set(forest.feature[forest.left != -1].tolist()) == {2, 5}


@pytest.fixture(scope="module")
def table(transactions_file: Path) -> LabelledTable:
    return read_table(str(transactions_file), TRANSACTIONS)


def test_the_trained_lane_is_such_a_forest(transactions_bundle: str) -> None:
    bundle = open_bundle(transactions_bundle)
    lane = bundle.lane(NOVELTY_LANE)
    rows = np.zeros((2, len(NAMES)), np.float32)
    rows[1, [at for at in range(len(NAMES)) if at not in novelty_columns(TRANSACTIONS)]] = 1e6
    one, other = lane.score(rows)
    assert one == other


def test_the_window_is_of_legitimate_rows_whose_labels_are_known(table: LabelledTable) -> None:
    rows = known_legitimate(table)
    times = table.transactions.times
    assert times is not None
    assert not table.labels[rows].any()
    assert times[rows[-1]] < times[-1] - 7 * 86_400_000_000
    assert (np.diff(rows) > 0).all()


def test_moving_the_window_changes_it_and_nothing_else(
    transactions_bundle: str, table: LabelledTable, tmp_path: Path
) -> None:
    before = open_bundle(transactions_bundle)
    moved = recalibrate(before, table, str(tmp_path / "moved"))
    after = open_bundle(str(tmp_path / "moved"))
    assert after.digest == moved.model_version != before.digest
    window = before.manifest.novelty.file
    assert {path for path in before.files if before.files[path] != after.files[path]} == {window}
    features, _ = table_features(table)
    scores = after.lane(NOVELTY_LANE).score(features[known_legitimate(table)])
    assert after.files[window] == NoveltyCalibration(scores).to_bytes()
    assert after.manifest.calibration == before.manifest.calibration
    assert after.manifest.steps[-1]["window"] == moved.rows == len(scores)
    assert after.manifest.models[FRAUD_LANE] == before.manifest.models[FRAUD_LANE]


def test_too_few_rows_are_no_window(
    transactions_bundle: str, transactions_file: Path, tmp_path: Path
) -> None:
    few = read_table(str(transactions_file), TRANSACTIONS, until="2018-04-10")
    with pytest.raises(TableError, match="older than the label delay, expected 1,000 or more"):
        recalibrate(open_bundle(transactions_bundle), few, str(tmp_path / "few"))
