"""What is counted when one kind of fraud is unseen, by tables small enough to count by hand."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.errors import TableError
from training.protocol import Cards
from training.unseen import Plan, look, read_scenarios
from training.unseen_report import BASELINE, Key, Tally, chosen, markdown_of, report

FIRST = (date(2018, 7, 4) - date(1970, 1, 1)).days


def looked(deeds: list[tuple[int, int, int]], plan: Plan) -> list[list[list[int]]]:
    """Deeds are (day, card, kind): 0 legitimate, 1 a known fraud, 2 an unseen one. Cards there
    were and cards found, by day: the unseen ones first."""
    day, card, kind = np.array(deeds, np.int64).T
    cards = Cards(day + FIRST, card, (kind == 1).astype(np.int8))
    tally = look(cards, kind == 2, np.arange(len(deeds)), plan)
    return [tally.cards.tolist(), tally.found.tolist()]


def score(*numbers: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.array(numbers, np.float64)


def test_the_highest_cards_of_a_day_are_looked_into() -> None:
    deeds = [(0, 1, 2), (0, 2, 0), (0, 3, 1), (0, 4, 2)]
    there, found = looked(deeds, [(score(0.9, 0.8, 0.7, 0.1), 2)])
    assert (there, found) == ([[2, 1]], [[1, 0]])


def test_a_card_takes_one_place_however_many_transactions_it_has() -> None:
    deeds = [(0, 1, 0), (0, 1, 0), (0, 2, 2)]
    assert looked(deeds, [(score(0.9, 0.8, 0.7), 2)])[1] == [[1, 0]]


def test_a_second_lane_chooses_among_the_cards_that_the_first_left() -> None:
    deeds = [(0, 1, 1), (0, 2, 0), (0, 3, 2)]
    lanes = [(score(0.9, 0.2, 0.1), 1), (score(0.9, 0.1, 0.8), 1)]
    assert looked(deeds, lanes)[1] == [[1, 1]]


def test_a_card_that_was_found_is_found_on_later_days_and_takes_no_place_there() -> None:
    deeds = [(0, 1, 2), (1, 1, 2), (1, 2, 1)]
    there, found = looked(deeds, [(score(0.9, 0.9, 0.1), 1)])
    assert there == [[1, 0], [1, 1]]
    assert found == [[1, 0], [1, 1]]


def test_a_legitimate_card_that_was_looked_into_may_be_again() -> None:
    deeds = [(0, 1, 0), (1, 1, 2)]
    assert looked(deeds, [(score(0.9, 0.9), 1)])[1] == [[0, 0], [1, 0]]


def tallies(unseen: dict[str, int], known: dict[str, int]) -> dict[Key, list[Tally]]:
    """Ten cards of each kind on each of three days; so many of them found."""
    there = np.full((3, 2), 10)
    return {
        ("validation", 3, "dropped", name): [Tally(there, np.full((3, 2), (many, known[name])))]
        for name, many in unseen.items()
    }


def test_the_variant_that_finds_most_is_chosen_unless_it_gives_up_known_fraud() -> None:
    unseen = {BASELINE: 4, "lanes": 7, "forest": 9}
    assert chosen(tallies(unseen, {BASELINE: 8, "lanes": 8, "forest": 2})) == "lanes"
    assert chosen(tallies(unseen, {BASELINE: 8, "lanes": 7, "forest": 2})) == BASELINE


def test_the_report_sets_every_variant_beside_xgboost_alone() -> None:
    found = report(tallies({BASELINE: 4, "lanes": 7}, {BASELINE: 8, "lanes": 8}))
    lanes = found["validation"]["3"]["dropped"]["lanes"]
    assert lanes["unseen"]["cards"] == 30
    assert lanes["unseen"]["recall"] == {"value": 0.7, "low": 0.7, "high": 0.7}
    assert lanes["unseen"]["above_xgboost"] == {"value": 0.3, "low": 0.3, "high": 0.3}
    assert lanes["known"]["above_xgboost"]["value"] == 0
    assert found["test"] is None
    alarms = {"stated": 0.002, "weeks": []}
    assert "| 3 | dropped | lanes (chosen) | 0.700 [0.700, 0.700] |" in markdown_of(
        {**found, "false_alarms": alarms}
    )
    json.dumps(found)


def test_a_file_without_scenarios_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "table.parquet")
    pq.write_table(pa.table({"amount": [1.0]}), file)
    with pytest.raises(TableError, match="no column TX_FRAUD_SCENARIO or scenario"):
        read_scenarios(file, 1)
    pq.write_table(pa.table({"scenario": [0, 2]}), file)
    assert read_scenarios(file, 2).tolist() == [0, 2]
