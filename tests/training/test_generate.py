"""The simulator keeps the handbook's rules, and the same seed gives the same table."""

import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.generate import (
    CARD_TAKEN,
    LARGE_AMOUNT,
    LEGITIMATE,
    PAIRS_AT_ONCE,
    RADIUS,
    SCHEMA,
    SIDE,
    TERMINAL_TAKEN,
    Attacks,
    Day,
    Simulation,
    commit_frauds,
    draw_amounts,
    draw_population,
    find_reach,
    simulate,
    write,
)

SMALL = Simulation(days=20, customers=60, terminals=90, seed=7)
HANDBOOK = Simulation(days=42, customers=5_000, terminals=10_000, seed=0)

simulations = st.builds(
    Simulation,
    days=st.integers(1, 8),
    customers=st.integers(1, 40),
    terminals=st.integers(1, 200),
    seed=st.integers(0, 2**64),
)
few = settings(max_examples=40, deadline=None)


class Columns(NamedTuple):
    """A simulated table's columns for arithmetic."""

    second: NDArray[np.int64]
    """Since the first day's midnight."""
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    cents: NDArray[np.int64]
    is_fraud: NDArray[np.int8]
    scenario: NDArray[np.int8]


def columns(table: pa.Table, start: date = SMALL.start) -> Columns:
    since = table["timestamp"].to_numpy() - np.datetime64(start, "us")
    return Columns(
        since.astype("timedelta64[s]").astype(np.int64),
        pc.cast(table["customer_id"], pa.int64()).to_numpy(),
        pc.cast(table["terminal_id"], pa.int64()).to_numpy(),
        np.rint(table["amount"].to_numpy() * 100).astype(np.int64),
        table["is_fraud"].to_numpy(),
        table["scenario"].to_numpy(),
    )


def digest_of_file(table: pa.Table, path: Path) -> str:
    write(table, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def handbook() -> Columns:
    """42 days at the published size: 400,000 rows, the last 14 days at the steady fraud rate."""
    return columns(simulate(HANDBOOK))


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = digest_of_file(simulate(SMALL), tmp_path / "first.parquet")
    assert digest_of_file(simulate(SMALL), tmp_path / "second.parquet") == first


def test_another_seed_gives_another_table() -> None:
    assert not simulate(SMALL).equals(simulate(replace(SMALL, seed=SMALL.seed + 1)))


@few
@given(simulations, st.integers(1, 40))
def test_a_longer_simulation_begins_with_the_shorter_one(short: Simulation, more: int) -> None:
    table = simulate(short)
    longer = simulate(replace(short, days=short.days + more))
    assert longer.slice(0, len(table)).equals(table)
    assert (columns(longer).second[len(table) :] >= short.days * 86_400).all()


def test_another_start_moves_the_timestamps_and_nothing_else() -> None:
    moved = simulate(replace(SMALL, start=date(2024, 2, 28)))
    assert moved.drop(["timestamp"]).equals(simulate(SMALL).drop(["timestamp"]))
    assert (columns(moved, date(2024, 2, 28)).second == columns(simulate(SMALL)).second).all()


@few
@given(simulations)
def test_rows_are_in_order_of_time_then_customer_within_the_days_asked_for(
    asked: Simulation,
) -> None:
    table = simulate(asked)
    assert table.schema == SCHEMA
    assert all(column.null_count == 0 for column in table.columns)
    assert table["transaction_id"].to_pylist() == [str(row) for row in range(len(table))]
    rows = columns(table)
    assert np.array_equal(np.lexsort((rows.customer, rows.second)), np.arange(len(table)))
    assert ((rows.second >= 0) & (rows.second < asked.days * 86_400)).all()


@few
@given(simulations)
def test_amounts_are_whole_cents_and_never_negative(asked: Simulation) -> None:
    table = simulate(asked)
    cents = columns(table).cents
    assert (cents >= 0).all()
    assert (table["amount"].to_numpy() == cents / 100).all()


@few
@given(simulations)
def test_the_scenario_says_why_a_transaction_is_fraud(asked: Simulation) -> None:
    rows = columns(simulate(asked))
    assert (rows.is_fraud == (rows.scenario != LEGITIMATE)).all()
    assert set(rows.scenario.tolist()) <= {LEGITIMATE, LARGE_AMOUNT, TERMINAL_TAKEN, CARD_TAKEN}
    assert (rows.is_fraud[rows.cents > 220_00] == 1).all()
    assert (rows.cents[rows.scenario == LARGE_AMOUNT] > 220_00).all()
    assert (rows.cents[rows.scenario == CARD_TAKEN] % 5 == 0).all()


def test_every_transaction_on_an_attacked_terminal_is_fraud_that_day(handbook: Columns) -> None:
    place = handbook.second // 86_400 * HANDBOOK.terminals + handbook.terminal
    attacked = np.isin(place, place[handbook.scenario == TERMINAL_TAKEN])
    assert attacked.any()
    assert (handbook.scenario[attacked] >= TERMINAL_TAKEN).all()


def test_no_more_terminals_and_cards_are_attacked_than_the_published_rates_allow(
    handbook: Columns,
) -> None:
    last_day = handbook.second // 86_400 == HANDBOOK.days - 1
    terminals = handbook.terminal[last_day & (handbook.scenario == TERMINAL_TAKEN)]
    cards = handbook.customer[last_day & (handbook.scenario == CARD_TAKEN)]
    assert 0 < len(np.unique(terminals)) <= 2 * 28
    assert 0 < len(np.unique(cards)) <= 3 * 14


def test_a_stolen_card_spends_five_times_as_much(handbook: Columns) -> None:
    stolen = handbook.cents[handbook.scenario == CARD_TAKEN]
    honest = handbook.cents[handbook.scenario == LEGITIMATE]
    assert 4.5 < stolen.mean() / honest.mean() < 5.5


def test_the_many_ties_of_a_large_table_are_broken_by_customer(handbook: Columns) -> None:
    tied = np.diff(handbook.second) == 0
    assert tied.sum() > 10_000
    assert (np.diff(handbook.customer)[tied] >= 0).all()


def test_honest_amounts_average_what_the_handbooks_do(handbook: Columns) -> None:
    # Mean amounts average 52.50, and the redraw of negative ones lifts that by 2.7%.
    honest = handbook.cents[handbook.scenario == LEGITIMATE]
    assert 52_00 < honest.mean() < 56_00


def test_a_full_size_simulation_has_the_handbooks_volume_and_share_of_fraud(
    handbook: Columns,
) -> None:
    # 5,000 customers, 2 transactions a day, of which 3.1% fall outside the day; in the
    # handbook's own table 9,587 a day, and 0.88% fraud from day 30 on.
    assert 9_400 < len(handbook.second) / HANDBOOK.days < 9_900
    steady = handbook.second // 86_400 >= 28
    assert 0.0075 < handbook.is_fraud[steady].mean() < 0.0105


def test_times_of_day_are_normal_around_noon(handbook: Columns) -> None:
    second = handbook.second % 86_400
    # A normal with deviation 20,000 s has 18,257 s left when cut at 2.16 deviations.
    assert abs(second.mean() - 43_200) < 150
    assert abs(second.std() - 18_257) < 150


def test_transactions_a_day_vary_by_customer_up_to_four(handbook: Columns) -> None:
    rate = np.bincount(handbook.customer, minlength=HANDBOOK.customers) / HANDBOOK.days / 0.969
    # Uniform from 0 to 4: deciles at 0.4, 0.8, ... within what 42 days of Poisson counts blur.
    deciles = np.quantile(rate, np.arange(1, 10) / 10)
    assert np.abs(deciles - 0.4 * np.arange(1, 10)).max() < 0.15


@few
@given(st.floats(5, 100), st.integers(0, 2**32))
def test_amounts_spread_around_their_mean_with_half_of_it(mean: float, seed: int) -> None:
    amounts = draw_amounts(np.full(20_000, mean), np.random.default_rng(seed))
    assert (amounts >= 0).all()
    # Redrawing the 2.3% below zero lifts the mean by 2.7%.
    assert np.isclose(amounts.mean(), 1.027 * mean, rtol=0.02)
    assert np.isclose(np.quantile(amounts, 0.84), 1.5 * mean, rtol=0.04)


@few
@given(simulations)
def test_customers_only_use_terminals_within_reach(asked: Simulation) -> None:
    people, places, *_ = np.random.SeedSequence(asked.seed).spawn(5)
    reach = draw_population(asked, people, places).reach
    allowed = set(
        zip(
            np.repeat(np.arange(asked.customers), reach.size).tolist(),
            reach.terminals.tolist(),
            strict=True,
        )
    )
    rows = columns(simulate(asked))
    assert set(zip(rows.customer.tolist(), rows.terminal.tolist(), strict=True)) <= allowed


@few
@given(st.integers(1, 50), st.integers(1, 300), st.integers(0, 2**32))
def test_reach_is_every_terminal_within_the_radius_or_else_the_nearest(
    customers: int, terminals: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    homes, sites = rng.uniform(0, SIDE, (customers, 2)), rng.uniform(0, SIDE, (terminals, 2))
    reach = find_reach(homes, sites)
    for home, first, size in zip(homes, reach.first, reach.size, strict=True):
        distance = np.hypot(*(sites - home).T)
        near = np.flatnonzero(distance <= RADIUS)
        expected = near if len(near) else np.array([distance.argmin()])
        assert reach.terminals[first : first + size].tolist() == expected.tolist()


def test_reach_is_the_same_when_it_is_found_in_several_steps() -> None:
    rng = np.random.default_rng(0)
    homes, sites = rng.uniform(0, SIDE, (3_000, 2)), rng.uniform(0, SIDE, (60_000, 2))
    whole = find_reach(homes, sites)
    assert len(whole.terminals) > PAIRS_AT_ONCE
    for part in (slice(0, 10), slice(2_990, 3_000)):
        reach = find_reach(homes[part], sites)
        assert reach.size.tolist() == whole.size[part].tolist()
        first = whole.first[part][0]
        assert np.array_equal(
            reach.terminals, whole.terminals[first : first + len(reach.terminals)]
        )


def test_one_customer_at_one_terminal_is_a_population() -> None:
    rows = columns(simulate(Simulation(days=200, customers=1, terminals=1, seed=1)))
    assert set(rows.customer.tolist()) == set(rows.terminal.tolist()) == {0}


def test_a_simulation_without_transactions_is_an_empty_table_that_can_be_written(
    tmp_path: Path,
) -> None:
    idle = (Simulation(days=1, customers=1, terminals=1, seed=seed) for seed in range(100))
    table = next(table for table in map(simulate, idle) if len(table) == 0)
    write(table, tmp_path / "empty.parquet")
    assert pq.read_table(tmp_path / "empty.parquet").equals(table)


@pytest.mark.parametrize("lasts", [1, 14, 28])
def test_an_attack_lasts_its_days_with_the_day_of_the_draw(lasts: int) -> None:
    attacks = Attacks(members=10_000, rate=2 / 10_000, lasts=lasts)
    rng = np.random.default_rng(0)
    attacks.begin(rng)
    first_drawn = np.flatnonzero(attacks.under_way)
    days = [attacks.under_way[first_drawn]]
    for _ in range(40):
        attacks.begin(rng)
        days.append(attacks.under_way[first_drawn])
    # None of the two is drawn again within 40 days of this seed.
    assert np.array(days).all(axis=1).tolist() == [True] * lasts + [False] * (41 - lasts)
    assert not np.array(days)[lasts:].any()


@pytest.mark.parametrize(
    ("members", "rate", "attacked"), [(10_000, 2 / 10_000, 2), (100_000, 2 / 10_000, 20), (1, 1, 1)]
)
def test_attacks_a_day_keep_the_published_proportion(
    members: int, rate: float, attacked: int
) -> None:
    attacks = Attacks(members, rate, lasts=28)
    attacks.begin(np.random.default_rng(0))
    assert attacks.under_way.sum() == attacked


def test_a_small_population_is_attacked_on_as_many_days_as_its_share_says() -> None:
    attacks, rng = Attacks(1_000, 2 / 10_000, lasts=1), np.random.default_rng(0)
    begun = 0
    for _ in range(2_000):
        attacks.begin(rng)
        begun += int(attacks.under_way.sum())
    assert 320 < begun < 480  # 400 expected, five standard deviations either way


def test_a_stolen_card_outranks_an_attacked_terminal_which_outranks_a_large_amount() -> None:
    n = 3_000
    bought = Day(
        second=np.zeros(n, dtype=np.int64),
        customer=np.zeros(n, dtype=np.int64),
        terminal=np.zeros(n, dtype=np.int64),
        cents=np.full(n, 220_01),
    )
    yes, no, rng = np.array([True]), np.array([False]), np.random.default_rng(0)
    assert set(commit_frauds(bought, no, no, rng)[0].tolist()) == {LARGE_AMOUNT}
    assert set(commit_frauds(bought, yes, no, rng)[0].tolist()) == {TERMINAL_TAKEN}
    scenario, cents = commit_frauds(bought, yes, yes, rng)
    assert set(scenario.tolist()) == {TERMINAL_TAKEN, CARD_TAKEN}
    assert abs((scenario == CARD_TAKEN).mean() - 1 / 3) < 0.03
    assert (cents == np.where(scenario == CARD_TAKEN, 5 * 220_01, 220_01)).all()


def test_220_itself_is_not_a_large_amount() -> None:
    zero = np.zeros(1, dtype=np.int64)
    bought = Day(second=zero, customer=zero, terminal=zero, cents=np.array([220_00]))
    no = np.array([False])
    scenario, _ = commit_frauds(bought, no, no, np.random.default_rng(0))
    assert scenario.tolist() == [LEGITIMATE]


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [("days", 0, 1), ("customers", -3, 1), ("terminals", 0, 1), ("seed", -1, 0)],
)
def test_a_setting_out_of_range_is_refused_with_its_value_and_what_was_expected(
    field: str, value: int, least: int
) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is {value}; expected .* at least {least}$"):
        replace(SMALL, **{field: value})  # type: ignore[arg-type]


def test_progress_counts_the_days_done() -> None:
    done: list[int] = []
    simulate(SMALL, on_day=done.append)
    assert done == list(range(1, SMALL.days + 1))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    table, path = simulate(SMALL), tmp_path / "transactions.parquet"
    path.write_text("an older file")
    write(table, path)
    assert pq.read_table(path).equals(table)
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "transactions.parquet"
    taken.mkdir()
    with pytest.raises(OSError, match=taken.name):
        write(simulate(SMALL), taken)
    assert list(tmp_path.iterdir()) == [taken]


def test_a_failed_write_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "transactions.parquet"
    path.write_text("an older file")
    unwritable = pa.table({"x": pa.array([None], pa.month_day_nano_interval())})
    with pytest.raises(pa.ArrowException):
        write(unwritable, path)
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]
