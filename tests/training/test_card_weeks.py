"""The backtest week by week, drift, and what the card says of them."""

from pathlib import Path

import numpy as np
import pytest

from sentinel.bundle import open_bundle
from training.by_week import WEEK, spans
from training.card_weeks import delay_section, saved_line, weeks_section
from training.drift import most_shifted, stability_index

DAY = WEEK // 7


def test_weeks_begin_with_the_first_row_and_a_short_rest_joins_the_last() -> None:
    times = np.arange(0, 17 * DAY, DAY // 4)
    parts = spans(len(times), times, 0)
    assert [(part.rows.start, part.rows.stop) for part in parts] == [(0, 28), (28, 68)]
    assert [part.name for part in parts] == ["1970-01-01", "1970-01-08"]


def test_a_week_without_rows_is_left_out() -> None:
    times = np.concatenate([np.arange(4), 15 * DAY + np.arange(4), [21 * DAY]])
    assert [part.rows for part in spans(9, times, 0)] == [slice(0, 4), slice(4, 9)]


def test_rows_without_a_time_are_cut_into_four_parts_named_by_their_rows() -> None:
    parts = spans(100, None, 1_000)
    assert [part.rows.stop - part.rows.start for part in parts] == [25] * 4
    assert parts[1].name == "rows 1,025 to 1,049"


def test_the_same_distribution_has_no_drift_and_a_moved_one_has() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=20_000)
    assert stability_index(before, rng.normal(size=20_000)) < 0.01
    assert stability_index(before, rng.normal(0.3, 1, 20_000)) > 0.05
    assert stability_index(before, rng.normal(2, 1, 20_000)) > 1


def test_the_index_is_the_sum_over_shares() -> None:
    before = np.repeat([0.0, 1.0], [50, 50])
    after = np.repeat([0.0, 1.0], [20, 80])
    by_hand = (0.2 - 0.5) * np.log(0.2 / 0.5) + (0.8 - 0.5) * np.log(0.8 / 0.5)
    assert stability_index(before, after) == pytest.approx(by_hand)


def test_values_that_go_missing_are_drift_too() -> None:
    before = np.arange(1_000.0)
    after = np.where(before % 2 == 0, np.nan, before)
    assert stability_index(before, after) > 1
    assert stability_index(np.full(10, np.nan), np.full(10, np.nan)) == 0


def test_the_feature_that_changed_most_is_named() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=(2_000, 3)).astype(np.float32)
    after = rng.normal(size=(2_000, 3)).astype(np.float32) + np.array([0, 1, 0], np.float32)
    assert most_shifted(("a", "b", "c"), before, after)[0] == "b"


def test_the_weeks_of_a_bundle_are_all_the_rows_of_its_backtest(transactions_bundle: str) -> None:
    quality = open_bundle(transactions_bundle).manifest.quality
    assert sum(week["rows"] for week in quality["weeks"]) == quality["together"]["rows"]
    assert sum(week["frauds"] for week in quality["weeks"]) == quality["together"]["frauds"]
    cost = sum(week["rows"] * week["regret_per_1000"]["together"] for week in quality["weeks"])
    assert cost / quality["together"]["rows"] == pytest.approx(
        quality["together"]["regret_per_1000"]["value"]
    )


def test_labels_that_come_sooner_are_worth_something(transactions_bundle: str) -> None:
    delay = open_bundle(transactions_bundle).manifest.quality["label_delay"]
    assert (delay["delay"], delay["sooner"]) == ("7d", "1d")
    assert delay["average_precision_sooner"] > delay["average_precision"]


def test_a_table_without_profiles_has_no_label_delay_to_speak_of(creditcard_bundle: str) -> None:
    quality = open_bundle(creditcard_bundle).manifest.quality
    assert quality["label_delay"] is None
    assert delay_section(quality) is None
    assert len(quality["weeks"]) == 4


def test_the_card_tells_every_week_and_what_is_saved(transactions_bundle: str) -> None:
    card = (Path(transactions_bundle) / "model-card.md").read_text()
    quality = open_bundle(transactions_bundle).manifest.quality
    assert weeks_section(quality, "EUR") in card
    assert saved_line(quality["weeks"], "EUR") in card
    assert "## The label delay" in card
    assert "comes from the transaction itself: this bundle knows nothing" not in card
