"""What the speed of the service is held to, and whether it is reached."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Table = tuple[list[str], list[list[str]]]
"""Column names and rows."""

NOT_MEASURED = "not measured"


class Goal(msgspec.Struct, frozen=True):
    """A figure and what it should be, at least or at most; ``floor`` is the least that will do,
    ``stretch`` what is hoped for."""

    figure: str
    bound: Literal["at least", "at most"]
    goal: float
    floor: float | None = None
    stretch: float | None = None


class Judgement(msgspec.Struct, frozen=True):
    """A goal beside what was measured; null where it was not."""

    figure: str
    measured: float | None
    bound: str
    goal: float
    reached: bool | None
    floor: float | None = None
    floor_reached: bool | None = None
    stretch: float | None = None
    stretch_reached: bool | None = None


BEST_RIVAL = "best of litserve and mlserver"

GOALS = (
    Goal("sentinel/limit, single, 64 connections", "at least", 0.25, floor=0.15, stretch=0.5),
    Goal("sentinel/sentinel-together, single, 64 connections", "at least", 0.7),
    Goal(f"sentinel/{BEST_RIVAL}, single, 64 connections", "at least", 2),
    Goal("sentinel/reference, single, 64 connections", "at least", 15),
    Goal("sentinel, single, 64 connections, p95 ms", "at most", 50),
    Goal("sentinel, single, 128 connections, p95 ms", "at most", 50),
    Goal("sentinel, single, 1 connections, p50 ms", "at most", 2),
    Goal("sentinel, single, 1 connections, p99 ms", "at most", 5),
    Goal("sentinel, arrow-1000, 4 connections, transactions/s", "at least", 200_000),
    Goal("sentinel, json-1000, 4 connections, transactions/s", "at least", 100_000),
    Goal("overload, offered/peak", "at least", 2.7),
    Goal("overload, accepted/peak", "at least", 0.9),
    Goal("overload, p95 ms of the accepted", "at most", 100),
    Goal("overload, neither accepted nor 503", "at most", 0),
    Goal("overload, share of the 503 with Retry-After", "at least", 1),
    Goal("overload, router memory after/before", "at most", 1.05),
    Goal("replica, start to ready, s", "at most", 3),
)
"""Of the part ``serving``. The overload is one of three times the peak only if about as much was
offered: a service that makes all connections wait keeps the load generator from it. Flat memory is
taken to be 5% of growth at most: the allocator's arenas move by that much at any load."""


def judge(figures: Mapping[str, float | None], goals: Sequence[Goal] = GOALS) -> list[Judgement]:
    """Each goal beside its figure; what is missing or null was not measured."""
    return [_judge(goal, figures.get(goal.figure)) for goal in goals]


def goal_table(judged: Sequence[Judgement]) -> Table:
    """A row a goal."""
    columns = ["figure", "measured", "goal", "reached"]
    return columns, [
        [
            each.figure,
            NOT_MEASURED if each.measured is None else _number(each.measured),
            f"{each.bound} {_number(each.goal)}",
            _verdict(each),
        ]
        for each in judged
    ]


def _judge(goal: Goal, measured: float | None) -> Judgement:
    return Judgement(
        figure=goal.figure,
        measured=measured,
        bound=goal.bound,
        goal=goal.goal,
        reached=_within(goal, measured, goal.goal),
        floor=goal.floor,
        floor_reached=_within(goal, measured, goal.floor),
        stretch=goal.stretch,
        stretch_reached=_within(goal, measured, goal.stretch),
    )


def _within(goal: Goal, measured: float | None, mark: float | None) -> bool | None:
    if measured is None or mark is None:
        return None
    return measured >= mark if goal.bound == "at least" else measured <= mark


def _verdict(each: Judgement) -> str:
    if each.reached is None:
        return NOT_MEASURED
    if each.reached:
        return f"yes, the stretch of {_number(each.stretch)} too" if each.stretch_reached else "yes"
    return f"no, but the floor of {_number(each.floor)}" if each.floor_reached else "no"


def _number(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.2f}"
