"""Replicas are what the work needs, within bounds; they come fast, go slowly, and never flutter."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sentinel.scaling import (
    Load,
    Memory,
    Sight,
    Stage,
    Verdict,
    capacity,
    decide,
)
from sentinel.scaling_settings import ScalingSettings
from sentinel.service_time import ServiceTime

USUAL = ScalingSettings()
INTERVAL = 0.5
"""Seconds between two decisions."""

rows = st.floats(0, 1e5)
services = st.builds(ServiceTime, st.floats(1e-6, 0.05), st.floats(0, 0.05))
loads = st.builds(Load, rows, rows, rows, st.booleans())


@st.composite
def stages(draw: st.DrawFn, name: str = "lane", service: bool = True) -> Stage:
    lowest = draw(st.integers(0, 5))
    highest = draw(st.integers(max(1, lowest), 40))
    target = draw(st.integers(0, 50))
    known = draw(services if service else st.none() | services)
    return Stage(name, target, target, lowest, highest, known, draw(st.integers(1, 4096)))


class Place:
    """A place where whatever is decided is there at once; remembers all decisions."""

    def __init__(self, *there: Stage, settings: ScalingSettings = USUAL) -> None:
        self.stages = list(there)
        self.settings = settings
        self.memory = Memory()
        self.at = 1_000.0
        self.changes: list[tuple[float, str, int]] = []
        self.verdicts: list[Verdict] = []

    def decide(self, load: Load | None) -> Verdict:
        verdict, self.memory = decide(self.settings, self.memory, Sight(self.at, load, self.stages))
        for stage in verdict.stages:
            if stage.changed:
                self.changes.append((self.at, stage.name, stage.target))
        self.stages = [
            replace(stage, target=verdict.targets[stage.name], running=verdict.targets[stage.name])
            for stage in self.stages
        ]
        self.at += INTERVAL
        self.verdicts.append(verdict)
        return verdict

    def hold(self, load: Load | None, seconds: float) -> "Place":
        for _ in range(math.ceil(seconds / INTERVAL) + 1):
            self.decide(load)
        return self

    @property
    def targets(self) -> list[int]:
        return [stage.target for stage in self.stages]


def lane(
    target: int = 1, lowest: int = 1, highest: int = 20, row_ms: float = 1, batch_ms: float = 0
) -> Stage:
    service = ServiceTime(row_ms / 1000, batch_ms / 1000)
    return Stage("lane", target, target, lowest, highest, service)


def arriving(rate: float, waiting: float = 0, flying: float = 0) -> Load:
    return Load(waiting, flying, rate)


NOTHING = arriving(0)


@given(st.lists(st.none() | loads, min_size=1, max_size=40), stages(service=False))
def test_bounds_hold_whatever_is_seen(seen: list[Load | None], stage: Stage) -> None:
    place = Place(stage)
    for load in seen:
        verdict = place.decide(load).stages[0]
        assert stage.lowest <= verdict.target <= stage.highest


@given(st.lists(loads, max_size=20), loads, rows, rows, rows, stages())
def test_more_work_never_gets_fewer_replicas(
    before: list[Load], load: Load, waiting: float, flying: float, arrivals: float, stage: Stage
) -> None:
    place = Place(stage)
    for earlier in before:
        place.decide(earlier)
    more = replace(
        load,
        waiting=load.waiting + waiting,
        flying=load.flying + flying,
        arrivals=load.arrivals + arrivals,
    )
    sight = Sight(place.at, load, place.stages)
    less, _ = decide(USUAL, place.memory, sight)
    most, _ = decide(USUAL, place.memory, replace(sight, load=more))
    assert less.stages[0].target <= most.stages[0].target


@given(services, services, loads)
def test_a_row_that_takes_longer_never_gets_fewer_replicas(
    one: ServiceTime, other: ServiceTime, load: Load
) -> None:
    slower = ServiceTime(
        max(one.row_seconds, other.row_seconds), max(one.batch_seconds, other.batch_seconds)
    )
    place = [Place(replace(lane(highest=10**9), service=service)) for service in (one, slower)]
    quick, slow = (there.hold(replace(load, complete=True), 2).targets for there in place)
    assert quick <= slow


@given(
    st.floats(10, 5_000),
    st.floats(0.1, 5),
    st.floats(0, 2),
    st.integers(1, 20),
    st.integers(0, 10**6),
)
@settings(max_examples=25)
def test_steady_load_with_noise_leaves_replicas_alone_for_ten_minutes(
    rate: float, row_ms: float, batch_ms: float, start: int, seed: int
) -> None:
    noise = random.Random(seed)
    place = Place(lane(start, 1, 100, row_ms, batch_ms))

    def look() -> None:
        load = arriving(
            rate * noise.uniform(0.95, 1.05), noise.uniform(0, 0.2) * rate * USUAL.objective
        )
        seen = ServiceTime(row_ms / 1000 * noise.uniform(0.97, 1.03), batch_ms / 1000)
        place.stages = [replace(place.stages[0], service=seen)]
        place.decide(load)

    while place.at < 1_000 + 300:  # enough to go from 100 to 1
        look()
    settled, began = len(place.changes), place.at
    while place.at < began + 600:
        look()
    after = place.changes[settled:]
    # Where the load lies on the edge of one more, noise may once make it that: it never goes back.
    need = place.verdicts[-1].stages[0].need
    assert need is not None
    on_edge = math.ceil(need * 0.9) < math.ceil(need * 1.1)
    assert len(after) <= on_edge


@given(st.floats(0, 3_000), st.floats(0, 3_000), st.floats(0.1, 5), st.integers(1, 60))
@settings(max_examples=25)
def test_after_a_step_there_are_as_many_as_littles_law_asks_for(
    before: float, after: float, row_ms: float, start: int
) -> None:
    place = Place(lane(start, 1, 10**6, row_ms)).hold(arriving(before), 300)
    place.hold(arriving(after), USUAL.trend_seconds + USUAL.grow_seconds)
    service = place.stages[0].service
    assert service is not None
    passes = capacity(USUAL, service, 4_096)
    least = after / passes / USUAL.grow_busy
    assert place.targets[0] >= least
    place.hold(arriving(after), 1_500)
    most = max(1, math.ceil(after / passes / USUAL.shrink_busy))
    assert least <= place.targets[0] <= most


def test_growth_takes_one_decision_once_the_need_has_stood() -> None:
    place = Place(lane()).hold(arriving(100), 60)
    place.hold(arriving(6_500), USUAL.trend_seconds)
    assert place.changes[0][2] >= 10
    assert place.changes[0][0] <= 1_000 + 60 + INTERVAL + USUAL.grow_seconds + INTERVAL


@given(rows, stages(), rows)
def test_what_stands_waits_never_longer_than_the_objective(
    waiting: float, stage: Stage, rate: float
) -> None:
    place = Place(stage).hold(arriving(rate, waiting), 2)
    assert stage.service is not None
    drained = place.targets[0] * capacity(USUAL, stage.service, stage.batch_rows) * USUAL.objective
    assert drained >= waiting * (1 - 1e-9) or place.targets[0] == stage.highest


@given(st.lists(loads, min_size=1, max_size=300), stages())
def test_no_replica_goes_that_the_queue_needs(seen: list[Load], stage: Stage) -> None:
    assert stage.service is not None
    place = Place(replace(stage, target=min(max(stage.target, stage.lowest), stage.highest)))
    passes = capacity(USUAL, stage.service, stage.batch_rows)
    for load in seen:
        verdict = place.decide(load).stages[0]
        if verdict.target < verdict.before:
            assert verdict.target * passes * USUAL.objective >= load.waiting * (1 - 1e-9)


@given(st.floats(0, 200))
def test_none_goes_before_fewer_have_sufficed_for_the_whole_window(pause: float) -> None:
    place = Place(lane(8)).hold(arriving(5_000), 40)
    high = place.targets
    left = place.at
    place.hold(NOTHING, pause)
    for at, _, target in place.changes:
        assert at < left or at >= left - INTERVAL + USUAL.shrink_seconds, target
    if pause < USUAL.shrink_seconds - 1:
        assert place.targets == high


def test_they_go_in_halves_with_a_pause_after_each() -> None:
    place = Place(lane(16)).hold(NOTHING, 300)
    assert [target for _, _, target in place.changes] == [8, 4, 2, 1]
    times = [at for at, _, _ in place.changes]
    assert times[0] - 1_000 == pytest.approx(USUAL.shrink_seconds)
    assert all(
        later - earlier == pytest.approx(USUAL.cooldown_seconds)
        for earlier, later in itertools.pairwise(times)
    )


def test_a_burst_that_is_over_before_a_replica_could_start_gets_none() -> None:
    place = Place(lane()).hold(arriving(100), 60)
    place.hold(arriving(100, waiting=50_000), USUAL.grow_seconds - 2 * INTERVAL)
    place.hold(arriving(100), 60)
    assert place.changes == []


@given(st.lists(loads, max_size=50), stages(), st.integers(1, 400))
def test_without_a_report_nothing_moves(seen: list[Load], stage: Stage, count: int) -> None:
    place = Place(replace(stage, target=min(max(stage.target, stage.lowest), stage.highest)))
    for load in seen:
        place.decide(load)
    before = place.targets
    for _ in range(count):
        verdict = place.decide(None)
        assert verdict.stages[0].reason == "holds: nobody reports"
        assert place.targets == before


def test_after_a_gap_every_window_begins_anew() -> None:
    place = Place(lane(4)).hold(NOTHING, USUAL.shrink_seconds - 2)
    place.decide(None)
    place.hold(NOTHING, USUAL.shrink_seconds - 2)
    assert place.changes == []
    place.hold(NOTHING, 3)
    assert place.targets == [2]


def test_while_some_do_not_report_replicas_may_come_but_none_goes() -> None:
    part = Load(0, 0, 10, complete=False)
    assert Place(lane(4)).hold(part, 300).targets == [4]
    much = Load(0, 0, 6_500, complete=False)
    place = Place(lane(4)).hold(much, 3)
    assert place.targets == [10]
    assert "(some do not report)" in place.verdicts[-1].stages[0].reason


def test_a_stage_whose_service_time_is_unknown_stays_as_it_is_while_there_is_work() -> None:
    unknown = replace(lane(3), name="new", service=None)
    place = Place(unknown, lane()).hold(arriving(3_000), 3)
    assert place.targets == [3, 5]
    assert "what a row takes it is not known" in place.verdicts[-1].stages[0].reason
    assert Place(unknown).hold(NOTHING, 120).targets == [1]


def test_each_stage_gets_what_its_own_rows_take() -> None:
    dear, cheap = lane(row_ms=5), replace(lane(row_ms=0.1), name="cheap")
    assert Place(dear, cheap).hold(arriving(1_000), 3).targets == [8, 1]


def test_a_growing_rate_is_met_where_it_will_be() -> None:
    steady, growing = Place(lane()), Place(lane())
    for step in range(40):
        growing.decide(arriving(1_000 + 25 * step))
    steady.hold(arriving(1_000 + 25 * 39), 3)
    assert growing.targets > steady.targets
    ahead = growing.verdicts[-1].ahead
    assert ahead is not None
    assert 1_975 < ahead <= 1_975 + 1.1 * 50 * USUAL.lead_seconds


def test_rows_that_stay_too_long_ask_for_more_than_arrive() -> None:
    # 100 rows of 500 a second stay 200 ms, eight times the mean: as many times as much must pass.
    assert Place(lane()).hold(arriving(500, waiting=75, flying=25), 3).targets == [6]
    assert Place(lane()).hold(arriving(500, waiting=5, flying=5), 3).targets == [1]


@given(services, st.integers(1, 4_096))
def test_a_replica_passes_no_more_than_its_rows_allow_and_at_least_half_of_it(
    service: ServiceTime, batch_rows: int
) -> None:
    passes = capacity(USUAL, service, batch_rows)
    assert passes <= 1 / service.row_seconds * (1 + 1e-9)
    row, batch = service.row_seconds, service.batch_seconds
    assert passes >= min(0.5 / row, batch_rows / (batch + batch_rows * row)) * (1 - 1e-9)


def test_a_change_is_told_in_one_line() -> None:
    place = Place(replace(lane(row_ms=1.1, batch_ms=0.4), name="XGBoost"))
    place.hold(arriving(830, waiting=20, flying=10), 3)
    lines = [line for verdict in place.verdicts for line in verdict.lines()]
    assert lines == [
        "scale: XGBoost 1 -> 2: 20 rows wait, 10 fly, 830 rows/s arrive, 1.1 ms a row and 0.4 ms a "
        "batch: 1,200 rows/s must pass for 50 ms, one replica passes 880, so 1.95 are needed at 70%"
    ]


WRONG = [
    {"objective": 50},
    {"objective_ms": 0},
    {"grow_busy": 0.4, "shrink_busy": 0.5},
    {"shrink_share": 0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ScalingSettings.model_validate(wrong)


def test_every_setting_says_its_unit_and_why() -> None:
    for name, setting in ScalingSettings.model_fields.items():
        assert len(setting.description or "") > 60, name
