"""Who is heard, what waits and what a row takes, from reports that come, stay away and grow old."""

import pytest

from sentinel.load_report import ARRIVED, BATCHES, CPU, CPUS, DONE, FLYING, WAITING, Point
from sentinel.load_view import LoadView, StageReports
from sentinel.scaling import Load
from sentinel.scaling_settings import ScalingSettings

SETTINGS = ScalingSettings(stale_seconds=5)
SKEW = 10_000.0
"""How far the replicas' clock is ahead of ours."""


def router(at: float, rate: float = 100, waits: float = 4, cpus: float = 0.5) -> Point:
    """What a router with a steady load has counted at this second."""
    counted = {
        WAITING: waits * at,
        FLYING: 2 * waits * at,
        ARRIVED: rate * at,
        DONE: rate * at,
        BATCHES: 100 * at,
        CPU: 0.002 * rate * at,
        CPUS: cpus,
    }
    return Point(SKEW + at, counted)


def own_work(point: Point) -> Point:
    names = (DONE, BATCHES, CPU, CPUS)
    return Point(point.at, {name: point.figures[name] for name in names})


def stage(name: str, **replicas: list[Point]) -> StageReports:
    return StageReports(name, len(replicas), 1, 4, replicas)


def view() -> LoadView:
    return LoadView(SETTINGS, "FraudRouter")


def test_the_load_of_all_routers_is_one_load() -> None:
    one, other = [router(1), router(3)], [router(1, rate=50, waits=1), router(2, rate=50, waits=1)]
    sight = view().sight(3, [stage("FraudRouter", a=one, b=other)])
    assert sight.load == Load(waiting=5, flying=10, arrivals=150, complete=True)


def test_what_a_row_takes_is_held_against_the_cpus_that_a_replica_was_given() -> None:
    points = [own_work(router(at, cpus=0.2)) for at in (1.0, 2.0, 3.0)]
    (lane,) = view().sight(3, [stage("XGBoost", a=points)]).stages
    assert lane.service is not None
    assert lane.service.row_seconds == pytest.approx(0.01)
    assert (lane.target, lane.running, lane.lowest, lane.highest) == (1, 1, 1, 4)


def test_a_report_seen_twice_teaches_once() -> None:
    seen = view()
    points = [router(at) for at in (1.0, 2.0)]
    (before,) = seen.sight(2, [stage("FraudRouter", a=points)]).stages
    dearer = Point(points[-1].at + 1, {**router(3).figures, CPU: points[-1].figures[CPU] + 1})
    first, again = (
        seen.sight(at, [stage("FraudRouter", a=[*points, dearer])]).stages[0].service
        for at in (3.0, 3.1)
    )
    assert first is not None
    assert before.service is not None
    assert first == again
    assert first.row_seconds > before.service.row_seconds


def test_no_router_means_nothing_is_known() -> None:
    for reports in ([], [stage("XGBoost", a=[router(1), router(2)])], [stage("FraudRouter")]):
        sight = view().sight(2, reports)
        assert sight.load is None
        assert sight.why_unknown == "no replica of FraudRouter works"


def test_a_router_that_reported_once_is_not_known_yet() -> None:
    sight = view().sight(2, [stage("FraudRouter", a=[router(1)])])
    assert sight.load is None
    assert sight.why_unknown == "no replica of FraudRouter has reported twice yet"


def test_a_report_grows_old_by_the_readers_clock() -> None:
    seen, reports = view(), [stage("FraudRouter", a=[router(1), router(2)])]
    assert seen.sight(2, reports).load is not None
    assert seen.sight(7, reports).load is not None
    sight = seen.sight(8, reports)
    assert sight.load is None
    assert sight.why_unknown == "the last report of FraudRouter came 6 s ago"
    later = [stage("FraudRouter", a=[router(2), router(3)])]
    assert seen.sight(9, later).load is not None


def test_of_some_routers_what_is_known_is_the_least_there_can_be() -> None:
    known, new = [router(1), router(2)], [router(2)]
    for silent in (new, []):
        sight = view().sight(2, [stage("FraudRouter", a=known, b=silent)])
        assert sight.load == Load(waiting=4, flying=8, arrivals=100, complete=False)


def test_a_lane_that_is_not_heard_any_more_has_no_service_time() -> None:
    seen = view()
    fresh = [router(at) for at in (1.0, 2.0)]
    old = [own_work(point) for point in fresh]
    seen.sight(2, [stage("FraudRouter", a=fresh), stage("XGBoost", b=old)])
    fresh = [router(at) for at in (8.0, 9.0)]
    one, other = seen.sight(9, [stage("FraudRouter", a=fresh), stage("XGBoost", b=old)]).stages
    assert one.service is not None
    assert other.service is None


def test_what_a_row_takes_outlives_the_replica_that_told_of_it() -> None:
    seen = view()
    seen.sight(2, [stage("FraudRouter", a=[router(1), router(2)])])
    (there,) = seen.sight(3, [stage("FraudRouter", b=[router(2), router(2.5)])]).stages
    assert there.service is not None
