"""Whether a goal is reached is said plainly, and not where nothing was measured."""

from loadtest.goals import GOALS, Goal, goal_table, judge

LEAST = Goal("a/b", "at least", 0.25, floor=0.15, stretch=0.5)
MOST = Goal("p95 ms", "at most", 50)


def verdicts(goal: Goal, *figures: float) -> list[str]:
    return [goal_table(judge({goal.figure: figure}, [goal]))[1][0][3] for figure in figures]


def test_a_goal_is_reached_at_its_bound_and_past_it() -> None:
    (at,) = judge({"a/b": 0.25}, [LEAST])
    assert (at.reached, at.floor_reached, at.stretch_reached) == (True, True, False)
    assert verdicts(LEAST, 0.14, 0.15, 0.25, 0.5) == [
        "no",
        "no, but the floor of 0.15",
        "yes",
        "yes, the stretch of 0.50 too",
    ]
    assert verdicts(MOST, 50, 50.1) == ["yes", "no"]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    for figures in ({}, {"a/b": None}):
        (judged,) = judge(figures, [LEAST])
        assert (judged.measured, judged.reached, judged.floor_reached) == (None, None, None)
        assert goal_table([judged])[1] == [["a/b", "not measured", "at least 0.25", "not measured"]]


def test_every_goal_of_the_service_has_a_figure_of_its_own() -> None:
    assert len({goal.figure for goal in GOALS}) == len(GOALS)
    bounds = {goal.figure: (goal.bound, goal.goal, goal.floor, goal.stretch) for goal in GOALS}
    assert bounds["sentinel/limit, single, 64 connections"] == ("at least", 0.25, 0.15, 0.5)
    assert bounds["sentinel/reference, single, 64 connections"] == ("at least", 15, None, None)
