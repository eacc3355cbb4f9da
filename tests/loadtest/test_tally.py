"""Counts and exact percentiles."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.exchanges import Outcome
from loadtest.load import Load, LoadRun
from loadtest.service import Address, Service
from loadtest.tally import Tally, merged, percentiles
from loadtest.verdict import LiveTable, Objective, Verdict
from sentinel.dataset import load_description

GOOD = Outcome(None, scored=1)
times = st.lists(st.floats(0, 1e5), min_size=1, max_size=300)


@given(times, st.integers(1, 100))
def test_a_percentile_is_the_smallest_time_that_so_many_do_not_exceed(
    milliseconds: list[float], percent: int
) -> None:
    (found,) = percentiles(np.array(milliseconds), [percent])
    share = Fraction(percent, 100)

    def within(limit: float) -> Fraction:
        return Fraction(sum(time <= limit for time in milliseconds), len(milliseconds))

    enough = [time for time in milliseconds if within(time) >= share]
    assert found == min(enough)


def test_percentiles_are_exact_far_above_100_ms() -> None:
    tally = Tally()
    for time in range(1, 2001):
        tally.add(time + 0.125, GOOD)
    figures = tally.figures(seconds=10)
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms) == (1000.125, 1900.125, 1980.125)
    assert (figures.max_ms, figures.requests_per_s) == (2000.125, 200)


def test_without_a_good_answer_there_is_no_percentile() -> None:
    tally = Tally()
    tally.add(1.0, Outcome("status 503"), 503)
    figures = tally.figures(seconds=1)
    assert (figures.p50_ms, figures.p95_ms, figures.max_ms) == (None, None, None)
    assert (figures.requests, figures.failed, figures.shed) == (1, 1, 1)
    assert Tally().figures(seconds=0).requests_per_s == 0


def test_refusals_count_as_failed_and_their_times_do_not_flatter() -> None:
    tally = Tally()
    for _ in range(99):
        tally.add(0.1, Outcome("status 503"), 503)
    tally.add(0.1, Outcome("status 500"), 500)
    tally.add(80.0, Outcome(None, scored=5, degraded=2))
    figures = tally.figures(seconds=2)
    assert (figures.requests, figures.failed, figures.shed) == (101, 100, 99)
    assert (figures.transactions, figures.degraded, figures.transactions_per_s) == (5, 2, 2.5)
    assert figures.p50_ms == 80.0
    assert tally.problems == {"status 503": 99, "status 500": 1}


def test_tallies_merge_into_one_of_all_that_was_counted() -> None:
    one, two, both = Tally(), Tally(), Tally()
    for number in range(100):
        outcome = Outcome(None, scored=2) if number % 3 else Outcome("status 500")
        (one if number % 2 else two).add(float(number), outcome, 200 if number % 3 else 500)
        both.add(float(number), outcome, 200 if number % 3 else 500)
    assert merged([one, two]).figures(7) == both.figures(7)
    assert merged([one, two]).problems == both.problems


@pytest.mark.parametrize(
    ("objective", "unmet"),
    [
        (Objective(p95_ms=50, max_failed=1), []),
        (Objective(p95_ms=50, max_failed=0), ["1 failed, at most 0 may"]),
        (Objective(p95_ms=49.9, max_failed=1), ["p95 is 50.0 ms, at most 49.9 ms may be"]),
    ],
)
def test_an_objective_says_which_part_is_not_met(objective: Objective, unmet: list[str]) -> None:
    tally = Tally()
    tally.add(50.0, GOOD)
    tally.add(1.0, Outcome("status 503"), 503)
    assert objective.unmet(tally.figures(1)) == unmet


def test_nothing_answered_meets_no_objective() -> None:
    nothing = Tally().figures(1)
    assert Objective(p95_ms=1e9, max_failed=10).unmet(nothing) == ["there was no good answer"]


def test_the_live_row_shows_counts_since_the_start_and_figures_of_the_last_second() -> None:
    live, tally = LiveTable(), Tally()
    for _ in range(10):
        tally.add(100.0, GOOD)
    assert live.row({"single": tally}, 1.0) == (
        "1", "10", "0", "0", "10", "10", "100.0", "100.0", "100.0",
    )  # fmt: skip
    for time in (1.0, 2.0, 3.0, 4.0):
        tally.add(time, Outcome(None, scored=5))
    tally.add(9.0, Outcome("status 503"), 503)
    assert live.row({"single": tally}, 3.0) == (
        "3", "15", "1", "1", "2", "10", "2.0", "4.0", "4.0",
    )  # fmt: skip


@pytest.mark.parametrize(("users", "told"), [(2, False), (100, True)])
def test_a_reader_is_told_when_the_users_hardly_waited_for_the_service(
    users: int, told: bool
) -> None:
    tally = Tally()
    for _ in range(10):
        tally.add(400.0, GOOD)
    service = Service(Address.of("http://host", None), load_description("transactions"), "5e" * 32)
    load = Load(users=users, duration=2, kind="single", rows=1, seed=0)
    run = LoadRun({"single": tally}, {}, seconds=2, busy=0.5, ended_early=False, report=None)
    verdict = Verdict.of(service, load, run, Objective(p95_ms=500, max_failed=0))
    assert verdict.in_flight == 2.0
    assert bool(verdict.advice()) == told
    assert verdict.in_words() == "objective met: p95 400.0 ms (at most 500), 0 failed"
