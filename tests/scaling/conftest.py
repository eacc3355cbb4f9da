"""One spike on the real service under each policy: what several tests look at."""

import re
import time
from datetime import datetime

import pytest

from loadtest.scale_run import Plan, Run, run
from loadtest.shapes import COURSES, Shape

SECONDS = 60.0
OURS = Plan(policy={"shrink_seconds": 12, "cooldown_seconds": 4}, seconds=SECONDS, after=45)
DEFAULT = Plan(policy=None, seconds=SECONDS, after=5)
"""Its replicas would stay for ten minutes after the last need of them."""
BEGINS = COURSES[Shape.SPIKE][1][0] * SECONDS
"""When the spike begins, in seconds since the load does."""


@pytest.fixture(scope="session")
def spike(plain_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The spike under our policy."""
    return run(OURS, plain_bundle, tmp_path_factory.mktemp("spike"))


@pytest.fixture(scope="session")
def spike_by_default(plain_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same under Serve's default policy."""
    return run(DEFAULT, plain_bundle, tmp_path_factory.mktemp("default"))


def changes(run: Run) -> list[tuple[float, str, int, int]]:
    """Seconds since the load began, deployment, replicas before and after: what our policy said."""
    first = run.seconds[0].load
    assert first is not None
    began = first["at"] - first["seconds"]
    found = []
    for line in run.lines:
        match = re.search(r"(\d{4}-\S+ [\d:]+),(\d+) .* scale: (\w+) (\d+) -> (\d+): ", line)
        if match:
            day, millis, name, before, after = match.groups()
            at = time.mktime(datetime.fromisoformat(day).timetuple()) + int(millis) / 1000
            found.append((at - began, name, int(before), int(after)))
    return found
