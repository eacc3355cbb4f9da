"""How a load changes over a test: how many of its users are there at each moment."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise


class Shape(StrEnum):
    """The course of a load."""

    STEADY = "steady"
    RAMP = "ramp"
    SPIKE = "spike"
    DAY = "day"


Course = Sequence[tuple[float, float]]
"""(share of the test that has passed, share of the users that are there), in between a line."""

SPIKE_BASE = 0.1
"""Share of the users that are there before and after a spike."""

_DAY_HOURS = (
    0.22, 0.15, 0.12, 0.10, 0.10, 0.14, 0.25, 0.42, 0.58, 0.70, 0.80, 0.88,
    1.00, 0.92, 0.82, 0.78, 0.80, 0.88, 0.96, 0.90, 0.74, 0.58, 0.42, 0.30,
)  # fmt: skip
"""Made up: nights are quiet, noon and the way home from work are not."""

COURSES: dict[Shape, Course] = {
    Shape.STEADY: ((0, 1), (1, 1)),
    Shape.RAMP: ((0, 0), (1, 1)),
    # A fifth of the time before it, two fifths in it; then what came has time to go again.
    Shape.SPIKE: (
        (0, SPIKE_BASE),
        (0.2, SPIKE_BASE),
        (0.2, 1),
        (0.6, 1),
        (0.6, SPIKE_BASE),
        (1, SPIKE_BASE),
    ),
    Shape.DAY: tuple((hour / 24, share) for hour, share in enumerate((*_DAY_HOURS, _DAY_HOURS[0]))),
}


def share(shape: Shape, passed: float) -> float:
    """Which share of the users is there when this share of the test (0 to 1) has passed."""
    course = COURSES[shape]
    passed = min(max(passed, 0.0), 1.0)
    after = bisect_right(course, passed, key=lambda point: point[0])
    if after == len(course):
        return course[-1][1]
    (began, low), (ends, high) = course[after - 1], course[after]
    return low + (high - low) * (passed - began) / (ends - began)


def users_at(shape: Shape, users: int, passed: float) -> int:
    """How many of the users are there, at least one."""
    return max(1, math.floor(users * share(shape, passed) + 0.5))


def mean_share(shape: Shape) -> float:
    """The share of the users that is there on average."""
    return sum(
        (after - at) * (low + high) / 2 for (at, low), (after, high) in pairwise(COURSES[shape])
    )
