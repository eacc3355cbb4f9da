"""The whole loop in simulated time: replicas follow the load and let go of it again."""

import itertools

from loadtest.shapes import Shape
from tests.scaling_model import FRAUD, NOVELTY, OBJECTIVE, ROUTER, START, Ours, World

PEAK = 300
"""Rows a second at the height; one router passes some 120 of them, one forest 160."""


def run(shape: Shape, seconds: float, peak: float = PEAK, seed: int = 1) -> World:
    return World(Ours(), shape, seconds, peak, seed=seed).run()


def size(world: World, stage: str, at: float) -> int:
    """How many there should have been at this second."""
    return [1, *(target for when, name, target in world.changes if name == stage and when <= at)][
        -1
    ]


def test_a_spike_is_met_within_seconds_and_let_go_of_within_minutes() -> None:
    world = run(Shape.SPIKE, 480)
    begins, ends = 0.2 * 480, 0.6 * 480
    for stage in (ROUTER, NOVELTY):
        assert size(world, stage, begins - 0.1) == 1
        assert size(world, stage, begins + 3) >= 3
        assert size(world, stage, ends + 160) == 1
    # Late only while the first new replicas start and the queue drains.
    assert world.late_seconds <= START + 4
    assert world.refused < 0.02 * world.answered


def test_a_growing_load_is_met_before_it_is_there() -> None:
    world = run(Shape.RAMP, 300, peak=220)
    assert (world.late_seconds, world.refused) == (0, 0)
    steps = [target for _, name, target in world.changes if name == ROUTER]
    assert steps == [2, 3]


def test_a_day_goes_by_without_a_late_second_and_with_few_changes() -> None:
    world = run(Shape.DAY, 1_200, peak=225)
    assert (world.late_seconds, world.refused) == (0, 0)
    assert len([one for one in world.changes if one[1] == ROUTER]) <= 6
    highest = [
        max(size(world, stage, at) for at in range(1_200)) for stage in (ROUTER, FRAUD, NOVELTY)
    ]
    assert world.replica_seconds < 0.85 * 1_200 * sum(highest)


def test_a_steady_load_for_ten_minutes_changes_nothing_once_met() -> None:
    world = run(Shape.STEADY, 780, peak=107, seed=2)
    assert [change for change in world.changes if change[0] > 180] == []
    assert world.late_seconds <= START + 4  # at the start it is a spike


def test_replicas_never_come_and_go_within_the_cooldown() -> None:
    world = run(Shape.SPIKE, 480)
    for stage in (ROUTER, FRAUD, NOVELTY):
        sizes = [(at, target) for at, name, target in world.changes if name == stage]
        for (grown, high), (shrunk, low) in itertools.pairwise(sizes):
            assert low > high or shrunk - grown >= Ours().settings.cooldown_seconds


def test_the_objective_of_the_model_is_that_of_the_settings() -> None:
    assert Ours().settings.objective == OBJECTIVE
