"""Every feature is what its definition says, exactly, whatever came before in whichever order."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from numpy.typing import NDArray

from sentinel.feature_specs import KIND, BehaviourFeature, feature_names
from sentinel.history import table_features
from sentinel.profile_kernel import LATE, UNUSUAL
from sentinel.profiles import Profiles
from sentinel.table import read_table
from tests.behaviour import (
    CUSTOMER,
    DAY,
    EVERY_KIND,
    HOUR,
    MINUTE,
    NAMES,
    TERMINAL,
    Deed,
    by_time,
    described,
    events,
    label,
    naive,
    of,
    one_by_one,
    planned,
    same,
    stories,
    told,
)


def told_of(feature: dict[str, Any], deeds: list[Deed], **behaviour: Any) -> list[float]:
    """What the first column of a feature says of each of these deeds, which come one by one."""
    return one_by_one(deeds, plan=planned(feature, **behaviour))[:, 0].tolist()


def paying(*amounts: float, every: int = MINUTE) -> list[Deed]:
    """Deeds of one customer at one terminal."""
    return [Deed(at + 1, at * every, amount) for at, amount in enumerate(amounts)]


# --- against the oracle -------------------------------------------------------------------------


def test_the_stories_ask_for_every_kind_of_feature_of_both_entities() -> None:
    kinds = {kind for kind, model in KIND.items() if model is BehaviourFeature}
    for entity in (CUSTOMER, TERMINAL):
        assert {f["kind"] for f in EVERY_KIND if f["by"] == entity} == kinds
    assert len(kinds) == 23


@given(stories())
def test_every_feature_is_what_its_definition_says_when_deeds_come_in_any_order(
    story: list[Deed],
) -> None:
    same(one_by_one(story), naive(story))


@given(stories())
def test_every_feature_is_what_its_definition_says_when_deeds_come_together(
    story: list[Deed],
) -> None:
    profiles = Profiles()
    half = len(story) // 2
    parts = [part for part in (story[:half], story[half:]) if part]
    got = [told(part, profiles) for part in parts]
    expected = naive([deed for part in parts for deed in by_time(part)])
    places = [np.argsort([deed.at for deed in part], kind="stable") for part in parts]
    same(np.concatenate([one[place] for one, place in zip(got, places, strict=True)]), expected)


# --- the handbook's definitions, by hand ----------------------------------------------------------


def sums_over(
    times: NDArray[np.int64], values: NDArray[np.int64], window: int, until: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of the rows that came first, those in (until - window, until], as running sums."""
    running = np.concatenate([[0], np.cumsum(values)])
    start = np.searchsorted(times, until - window, side="right")
    stop = np.minimum(np.searchsorted(times, until, side="right"), np.arange(len(times)) + 1)
    return running[np.maximum(stop, start)] - running[start]


@pytest.fixture(scope="module")
def handbook(transactions_file: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """The handbook's features as we make them, and the columns of the table."""
    windows = ("1d", "7d", "30d")
    description = described(
        [
            *(of(kind, CUSTOMER, *windows) for kind in ("count", "mean")),
            *(of(kind, TERMINAL, *windows) for kind in ("known_count", "known_fraud_rate")),
        ],
        {"label_delay": "7d"},
    )
    features, _ = table_features(read_table(str(transactions_file), description))
    names = [name for feature in description.features for name in feature_names(feature)]
    table = pq.read_table(transactions_file)
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    return dict(zip(names, features.T, strict=True)), columns


@pytest.mark.parametrize("window", [1, 7, 30])
def test_customers_have_the_handbooks_count_and_mean(handbook: Any, window: int) -> None:
    made, columns = handbook
    times = columns["timestamp"].astype("datetime64[us]").astype(np.int64)
    parts = np.rint(columns["amount"] * 10_000).astype(np.int64)
    for customer in np.unique(columns["customer_id"])[:40]:
        rows = np.flatnonzero(columns["customer_id"] == customer)
        when = times[rows]
        count = sums_over(when, np.ones(len(rows), np.int64), window * DAY, when)
        total = sums_over(when, parts[rows], window * DAY, when)
        np.testing.assert_array_equal(made[f"customer_id_count_{window}d"][rows], count)
        mean = (total / 10_000 / count).astype(np.float32)
        np.testing.assert_array_equal(made[f"customer_id_mean_{window}d"][rows], mean)


@pytest.mark.parametrize("window", [1, 7, 30])
def test_terminals_have_the_handbooks_count_and_risk_behind_the_delay(
    handbook: Any, window: int
) -> None:
    made, columns = handbook
    times = columns["timestamp"].astype("datetime64[us]").astype(np.int64)
    for terminal in np.unique(columns["terminal_id"])[:60]:
        rows = np.flatnonzero(columns["terminal_id"] == terminal)
        when, frauds = times[rows], columns["is_fraud"][rows].astype(np.int64)
        ones = np.ones(len(rows), np.int64)
        # As the handbook has it: what is within delay and window, less what is within the delay.
        both, late = (7 + window) * DAY, 7 * DAY
        count = sums_over(when, ones, both, when) - sums_over(when, ones, late, when)
        fraud = sums_over(when, frauds, both, when) - sums_over(when, frauds, late, when)
        np.testing.assert_array_equal(made[f"terminal_id_known_count_{window}d"][rows], count)
        rate = np.divide(fraud, count, out=np.zeros(len(rows)), where=count > 0)
        made_rate = made[f"terminal_id_known_fraud_rate_{window}d"][rows]
        np.testing.assert_array_equal(made_rate, rate.astype(np.float32))


# --- sentence by sentence -------------------------------------------------------------------------


def test_a_window_leaves_out_what_is_as_old_as_itself() -> None:
    deeds = [Deed(1), Deed(2, HOUR - 1), Deed(3, HOUR), Deed(4, 2 * HOUR - 1)]
    assert told_of(of("count", CUSTOMER, "1h"), deeds) == [1, 2, 2, 2]


def test_a_label_counts_from_the_very_end_of_the_delay_on() -> None:
    deeds = [Deed(1, fraud=1), Deed(2, 2 * HOUR - 1), Deed(3, 2 * HOUR), Deed(4, 3 * HOUR)]
    assert told_of(of("known_frauds", CUSTOMER, "1h"), deeds) == [0, 0, 1, 0]
    since = told_of(of("since_fraud", CUSTOMER, "1d"), deeds)
    assert (math.isnan(since[1]), since[2]) == (True, 0)
    assert since[3] == np.float32(1 / 24)


def test_an_entity_never_met_before_has_no_past_to_compare_with() -> None:
    features = told([Deed(1)])[0]
    by_kind: dict[str, set[float]] = {}
    for name, value in zip(NAMES, features.tolist(), strict=True):
        kind = name.removeprefix("customer_id_").removeprefix("terminal_id_").rsplit("_", 1)[0]
        by_kind.setdefault(kind, set()).add(-1 if math.isnan(value) else value)
    undefined = {
        "maximum", "median", "spread", "ratio_mean", "ratio_median", "ratio_maximum", "zscore",
        "since_last", "since_fraud", "clean_streak", "fraud_run_days",
    }  # fmt: skip
    assert {kind for kind, values in by_kind.items() if values == {-1}} == undefined
    assert by_kind["count"] == by_kind["tail"] == {1}
    assert by_kind["known_fraud_rate"] == by_kind["unusual_share"] == {0}
    assert by_kind["mean"] == by_kind["sum"] == {10}
    assert by_kind["first_at_terminal_id"] == by_kind["first_at_customer_id"] == {1}


def test_a_past_of_nothing_but_zeros_is_no_measure() -> None:
    for kind in ("ratio_mean", "ratio_maximum", "ratio_median", "zscore"):
        assert math.isnan(told_of(of(kind, CUSTOMER, "1h"), paying(0, 0, 5))[-1]), kind


def test_amounts_that_were_all_equal_do_not_make_a_cent_infinitely_unusual() -> None:
    assert told_of(of("zscore", CUSTOMER, "1h"), paying(10, 10, 10, 10.01))[-1] == pytest.approx(
        0.01 / (0.01 * 10), rel=1e-5
    )


def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle() -> None:
    deeds = paying(4, 1, 2, 100, 7)
    assert told_of(of("median", CUSTOMER, "1h"), deeds)[1:] == [4, 2.5, 2, 3]
    spread = told_of(of("spread", CUSTOMER, "1h"), deeds)
    assert spread[2:] == pytest.approx([1.4826 * 1.5, 1.4826 * 1, 1.4826 * 1.5], rel=1e-6)


def test_the_tail_is_the_share_of_amounts_as_high_with_its_own() -> None:
    assert told_of(of("tail", CUSTOMER, "1h"), paying(5, 9, 9, 1)) == pytest.approx(
        [1, 1 / 2, 2 / 3, 1]
    )


def test_an_amount_is_unusual_only_after_so_many_and_above_so_many_times_the_mean() -> None:
    behaviour = {"unusual": {"by": CUSTOMER, "over": "1h", "above": 3, "least": 2}}
    share = of("unusual_share", CUSTOMER, "1d")
    deeds = paying(1, 500, 751.5, 1_252.51, 1)
    # 500: one before it; 751.5: exactly three times the mean; 1,252.51: a cent above that.
    assert told_of(share, deeds, **behaviour) == [0, 0, 0, 0, 0.25]


def test_what_is_unusual_for_the_customer_is_held_against_the_terminal() -> None:
    behaviour = {"unusual": {"by": CUSTOMER, "over": "1d", "above": 2, "least": 1}}
    plan = planned(of("unusual_share", TERMINAL, "1d"), **behaviour)
    deeds = [Deed(1, 0, 1), Deed(2, 1, 9, terminal="bar"), Deed(3, 2, 9, "ben", "bar")]
    profiles = Profiles()
    _, marks = profiles.advance(plan, events(deeds))
    assert (marks & UNUSUAL).tolist() == [0, UNUSUAL, 0]
    assert told([Deed(4, 3, terminal="bar")], profiles, plan)[0, 0] == 0.5
    assert not (marks & LATE).any()


def test_days_with_something_unusual_are_days_in_utc() -> None:
    behaviour = {"unusual": {"by": CUSTOMER, "over": "30d", "above": 2, "least": 1}}
    deeds = [
        Deed(1, 0, 1),
        Deed(2, HOUR, 100),  # at 23:00
        Deed(3, 2 * HOUR - 1, 1_000),  # the last microsecond of the day
        Deed(4, 2 * HOUR, 10_000),
        Deed(5, 3 * HOUR, 1),
    ]
    assert told_of(of("unusual_days", CUSTOMER, "3d"), deeds, **behaviour) == [0, 0, 1, 1, 2]


def test_first_at_looks_no_further_back_than_its_window() -> None:
    deeds = [Deed(1), Deed(2, terminal="bar"), Deed(3, HOUR - 1), Deed(4, HOUR, terminal="bar")]
    assert told_of(of("first_at", CUSTOMER, "1h", at=TERMINAL), deeds) == [1, 1, 0, 1]


def test_first_at_can_look_for_an_entity_that_has_no_features_itself() -> None:
    description = described([of("first_at", CUSTOMER, "1d", at=TERMINAL)], {})
    plan = planned(of("first_at", CUSTOMER, "1d", at=TERMINAL))
    assert plan.keys == (CUSTOMER, TERMINAL)
    assert [each.entity for each in plan.entities] == [CUSTOMER]
    assert description.entities == (CUSTOMER, TERMINAL)


def test_a_clean_streak_counts_what_is_known_to_have_come_after_the_last_fraud() -> None:
    deeds = paying(*[1.0] * 8, every=HOUR)
    deeds[1], deeds[3] = deeds[1].but(fraud=1), deeds[3].but(fraud=1)
    streaks = told_of(of("clean_streak", CUSTOMER, "1d"), deeds)
    assert np.isnan(streaks[:3]).all()
    assert streaks[3:] == [0, 1, 0, 1, 2]


def test_a_run_of_frauds_ends_at_what_is_known_to_be_none() -> None:
    deeds = paying(*[1.0] * 9, every=HOUR)
    for at in (0, 2, 3, 5):
        deeds[at] = deeds[at].but(fraud=1)
    # Two hours later the first is known; then a good one, two frauds, a good one, a fraud, good.
    assert told_of(of("fraud_run", CUSTOMER, "1d"), deeds) == [0, 0, 1, 1, 1, 2, 2, 1, 1]
    days = told_of(of("fraud_run_days", CUSTOMER, "1d"), deeds)
    assert np.isnan(days[:2]).all()
    assert days[2:] == pytest.approx([hours / 24 for hours in (0, 1, 0, 1, 2, 0, 1)])


def test_a_run_of_frauds_is_followed_no_further_back_than_its_window() -> None:
    deeds = [deed.but(fraud=1) for deed in paying(*[1.0] * 6, every=HOUR)]
    assert told_of(of("fraud_run", CUSTOMER, "2h"), deeds) == [0, 0, 1, 2, 2, 2]
    assert told_of(of("fraud_run_days", CUSTOMER, "2h"), deeds)[-1] == pytest.approx(1 / 24)


def test_an_ordinary_fraud_is_one_whose_amount_was_not_unusual() -> None:
    behaviour = {"unusual": {"by": CUSTOMER, "over": "1d", "above": 2, "least": 1}}
    deeds = [deed.but(fraud=1) for deed in paying(10, 100, 12, every=HOUR)] + [Deed(9, 5 * HOUR)]
    assert told_of(of("ordinary_frauds", CUSTOMER, "1d"), deeds, **behaviour)[-1] == 2


def test_the_label_of_one_of_two_at_the_same_moment_counts_for_that_one() -> None:
    profiles = Profiles()
    plan = planned(of("known_frauds", CUSTOMER, "1d"), of("clean_streak", CUSTOMER, "1d"))
    twins = [Deed(1), Deed(2), Deed(3)]
    told(twins, profiles, plan)
    label(profiles, [Deed(2)])
    assert told([Deed(9, 2 * HOUR)], profiles, plan).tolist() == [[1, 1]]


@pytest.mark.parametrize("amount", [1e9, 1e12, 1e39, 1.797e308])
def test_no_amount_however_large_makes_a_feature_infinite(amount: float) -> None:
    deeds = paying(0.0001, 0.0001, amount, amount, 3.0)
    features = one_by_one(deeds)
    assert not np.isinf(features).any()
    same(features, one_by_one([deed.but(amount=min(deed.amount, 1e9)) for deed in deeds]))


def test_amounts_are_counted_in_ten_thousandths_so_that_their_order_cannot_matter() -> None:
    total = of("sum", CUSTOMER, "1d")
    amounts = [0.1, 0.2, 0.3, 1e8, 0.7, 1e-5]
    assert told_of(total, paying(*amounts))[-1] == told_of(total, paying(*amounts[::-1]))[-1]
    tenths = told_of(total, paying(*[0.1] * 10))
    assert tenths == [np.float32(tenth / 10) for tenth in range(1, 11)]
