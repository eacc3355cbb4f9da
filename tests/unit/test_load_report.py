"""What replicas count gives back what they did, and what a row takes them."""

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.load_report import (
    COLD_BATCHES,
    CPU,
    CPUS,
    LoadReport,
    Point,
    Queue,
    queue_between,
    works,
)
from sentinel.service_time import LEAST_ROW_SHARE, Costs, ServiceTime, Work


class Replica:
    """A replica whose time stands still unless told to go on."""

    def __init__(self, cpus: float = 0.5) -> None:
        self.now = 100.0
        self.cpu = 3.0
        self.report = LoadReport(cpus, lambda: self.now, lambda: self.cpu)

    def passes(self, seconds: float, waiting: int = 0, flying: int = 0) -> None:
        self.report.queue(waiting, flying)
        self.now += seconds

    def point(self) -> Point:
        return Point(self.now, self.report.all())


def test_the_mean_of_what_waited_is_exact_however_short_it_was() -> None:
    replica = Replica()
    first = replica.point()
    for _ in range(1_000):
        replica.report.arrived(8)
        replica.passes(0.001, waiting=8)
        replica.passes(0.003, flying=8)
    assert queue_between(first, replica.point()) == Queue(
        waiting=pytest.approx(2), flying=pytest.approx(6), arrivals=pytest.approx(2_000)
    )


def test_what_stands_in_the_queue_when_asked_counts_up_to_then() -> None:
    replica = Replica()
    first = replica.point()
    replica.passes(2, waiting=10)
    found = queue_between(first, replica.point())
    assert found is not None
    assert found.waiting == pytest.approx(10)


def warm(cpus: float = 0.5) -> Replica:
    """One whose first batches are over."""
    replica = Replica(cpus)
    for _ in range(COLD_BATCHES):
        replica.report.done(1)
    return replica


def test_work_is_what_lies_between_two_reports() -> None:
    replica = warm()
    points = [replica.point()]
    for rows in (10, 30):
        replica.report.done(rows)
        replica.passes(0.5)
        replica.cpu += 0.1
        points.append(replica.point())
    first, second = works(points)
    assert first == Work(0.5, pytest.approx(0.1), 1, 10)
    assert second == Work(0.5, pytest.approx(0.1), 1, 30)


def test_a_report_without_a_queue_or_without_work_says_nothing_of_it() -> None:
    replica = Replica()
    own = [Point(at, replica.report.own_work()) for at in (1.0, 2.0)]
    assert queue_between(*own) is None
    assert len(works(own)) == 1
    assert works([Point(1, {}), Point(2, {})]) == []


def test_what_a_process_takes_over_its_first_batches_says_nothing() -> None:
    replica = Replica()
    points = [replica.point()]
    for _ in range(COLD_BATCHES + 1):
        replica.passes(0.5)
        replica.cpu += 0.4
        replica.report.done(1)
        points.append(replica.point())
    assert works(points) == [Work(0.5, pytest.approx(0.4), 1, 1)]


def test_a_counter_that_fell_was_begun_anew_and_says_nothing() -> None:
    before, after = Replica(), Replica()
    before.report.arrived(10)
    before.cpu = 9
    assert queue_between(before.point(), Point(200, after.report.all())) is None
    assert works([before.point(), Point(200, after.report.all())]) == []


@pytest.mark.parametrize(("reserved", "counted"), [(0.2, 0.2), (0, 1), (2, 2)])
def test_a_replica_that_reserved_nothing_counts_as_a_core(reserved: float, counted: float) -> None:
    assert Replica(reserved).report.own_work()[CPUS] == counted


def test_counters_only_grow() -> None:
    replica = Replica()
    figures = [replica.report.all()]
    for seed in range(50):
        noise = random.Random(seed)
        replica.report.arrived(noise.randrange(5))
        replica.passes(noise.random(), noise.randrange(5), noise.randrange(5))
        replica.report.done(noise.randrange(5))
        replica.cpu += noise.random()
        figures.append(replica.report.all())
    for name in figures[0]:
        assert sorted(shown[name] for shown in figures) == [shown[name] for shown in figures]
    assert figures[-1][CPU] == replica.cpu


NOTHING = Costs()


def learnt(*works: Work, costs: Costs = NOTHING) -> Costs:
    for work in works:
        costs = costs.learnt(work)
    return costs


@given(st.floats(1e-6, 1e-2), st.floats(0, 1e-2), st.floats(0.05, 4), st.integers(0, 10**6))
@settings(max_examples=30)
def test_what_rows_and_batches_take_is_found_from_their_sums(
    row: float, batch: float, cpus: float, seed: int
) -> None:
    noise = random.Random(seed)
    costs = Costs()
    for _ in range(100):
        batches = noise.randint(1, 50)
        rows = batches * noise.randint(1, 100)
        costs = costs.learnt(Work(0.5, batch * batches + row * rows, batches, rows))
    service = costs.service(cpus)
    assert service is not None
    least = LEAST_ROW_SHARE * costs.cpu
    assert service.row_seconds * cpus == pytest.approx(max(row, least / costs.rows), rel=0.01)
    most = (costs.cpu - least) / costs.batches
    assert service.batch_seconds * cpus == pytest.approx(min(batch, most), rel=0.01, abs=1e-9)


numbers = st.floats(0, 1e4, allow_subnormal=False)


@given(st.lists(st.builds(Work, st.floats(0, 10), numbers, numbers, numbers), max_size=30))
def test_whatever_was_counted_the_times_are_finite_and_a_row_takes_some(works: list[Work]) -> None:
    service = learnt(*works).service(0.2)
    if service is not None:
        assert 0 < service.row_seconds < math.inf
        assert 0 <= service.batch_seconds < math.inf


def test_where_all_batches_are_alike_the_work_is_held_to_be_for_rows() -> None:
    service = learnt(*[Work(0.5, 0.2, 10, 100)] * 20).service(1)
    assert service is not None
    assert service.row_seconds == pytest.approx(0.002)
    assert service.batch_seconds == 0


def test_a_batch_takes_what_it_took_while_batches_are_alike() -> None:
    varied = [Work(0.5, 0.004 * 5 + 0.001 * rows, 5, rows) for rows in (10, 400, 30, 200) * 5]
    alike = [Work(0.5, 0.004 * 10 + 0.001 * 100, 10, 100)] * 1_000
    service = learnt(*varied, *alike).service(1)
    assert service is not None
    assert service.batch_seconds == pytest.approx(0.004, rel=0.05)
    assert service.row_seconds == pytest.approx(0.001, rel=0.05)


def test_what_is_worked_without_a_row_is_left_out() -> None:
    idle = [Work(0.5, 0.01, 0, 0)] * 10
    busy = [Work(0.5, 0.01 + 0.001 * rows, 1, rows) for rows in (5, 5, 5)]
    service = learnt(*idle, *busy).service(1)
    assert service is not None
    assert service.row_seconds == pytest.approx(0.001)


def test_an_idle_replica_that_loads_a_bundle_does_not_pass_for_one_that_always_works() -> None:
    usual = learnt(*[Work(0.5, 0.01, 0, 0)] * 10)
    loading = learnt(*[Work(0.5, 0.5, 0, 0)] * 3, costs=usual)
    assert loading.idle == pytest.approx(0.02, rel=1)
    assert learnt(Work(0.5, 0.01, 0, 0), costs=loading).idle == pytest.approx(0.02)


def test_what_rows_take_now_outweighs_what_they_took() -> None:
    quick = [Work(0.5, 0.001 * rows, 1, rows) for rows in [50] * 120]
    slow = [Work(0.5, 0.004 * rows, 1, rows) for rows in [50] * 600]
    service = learnt(*quick, *slow).service(1)
    assert service is not None
    assert service.row_seconds == pytest.approx(0.004, rel=0.05)


def test_while_nothing_was_scored_the_service_time_is_unknown() -> None:
    assert Costs().service(1) is None
    assert learnt(Work(0.5, 0.1, 0, 0)).service(1) is None


@pytest.mark.parametrize("wrong", [(0, 0), (-1, 0), (math.nan, 0), (1, -1), (1, math.inf)])
def test_a_service_time_that_cannot_be_is_refused(wrong: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="expected finite numbers"):
        ServiceTime(*wrong)
