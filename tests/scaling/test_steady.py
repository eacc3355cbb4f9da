"""A steady load on the real service changes nothing, for as long as it lasts."""

import os
from pathlib import Path

import pytest

from loadtest.scale_run import Plan, run
from loadtest.shapes import Shape

SECONDS = float(os.environ.get("SENTINEL_STEADY_SECONDS", "600"))


@pytest.mark.timeout(SECONDS + 300)
def test_a_steady_load_causes_no_scale_event(plain_bundle: str, tmp_path: Path) -> None:
    policy = {"shrink_seconds": 15, "cooldown_seconds": 5}
    plan = Plan(policy=policy, shape=Shape.STEADY, users=2, seconds=SECONDS, after=0)
    seen = run(plan, plain_bundle, tmp_path)
    assert [line for line in seen.lines if " -> " in line] == []
    assert seen.result["failed"] == 0, seen.result["problems"]
