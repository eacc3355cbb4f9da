"""On the handbook's table the novelty lane raises as many false alarms as it states, and finds
cards taken over that XGBoost was taught to take for legitimate."""

import os
from pathlib import Path

import pytest

from sentinel.dataset import load_description
from sentinel.history import table_features
from sentinel.table import LabelledTable, read_table
from training.false_alarms import false_alarms
from training.novelty import novelty_columns
from training.protocol import VALIDATION, Cards
from training.unseen import MISLABELLED, look, plans, read_scenarios, scene_of
from training.unseen_report import BASELINE


@pytest.fixture(scope="module")
def file() -> str:
    path = Path(os.environ.get("SENTINEL_DATA", "")) / "transactions.parquet"
    assert path.is_file(), f"{path} is not there; SENTINEL_DATA names its folder"
    return str(path)


@pytest.fixture(scope="module")
def table(file: str) -> LabelledTable:
    return read_table(file, load_description("transactions"))


def test_the_stated_rate_of_false_alarms_is_that_of_every_later_week(table: LabelledTable) -> None:
    features, _ = table_features(table)
    columns = novelty_columns(table.description)
    alarms = false_alarms(Cards.of(table), features, columns, VALIDATION)
    for week in alarms["weeks"]:
        assert week["observed"] == pytest.approx(alarms["stated"], rel=0.2), week["train_start"]


def test_cards_taken_over_are_found_though_labelled_legitimate(
    file: str, table: LabelledTable
) -> None:
    scene = scene_of(table, read_scenarios(file, len(table)), 3)
    week = scene.cards.week(VALIDATION[0])
    found = {
        name: look(scene.cards, scene.unseen, week.judged, plan).found.sum(axis=0)
        for name, plan in plans(scene, week, MISLABELLED).items()
    }
    alone, lanes = found[BASELINE], found["higher of the two ranks"]
    assert lanes[0] > 1.1 * alone[0], "the unseen scenario"
    assert lanes[1] > 0.97 * alone[1], "the known ones"
