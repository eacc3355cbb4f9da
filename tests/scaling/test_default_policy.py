"""The same spike under Serve's default policy: what ours is held against, and told of both."""

import pytest

from loadtest.autoscale_demo import DEFAULT, OURS, Runs, table
from loadtest.bench_command import markdown
from loadtest.scale_run import STAGES, Run
from tests.scaling.conftest import BEGINS, changes

pytestmark = pytest.mark.timeout(900)
"""Whichever test is first makes both runs, of two to three minutes each."""


@pytest.fixture
def told(spike: Run, spike_by_default: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Shows the comparison whatever comes of it."""
    with capsys.disabled():
        runs = Runs({OURS: spike, DEFAULT: spike_by_default})
        print(f"\n{markdown(*table(runs))}")


@pytest.mark.usefixtures("told")
def test_ours_has_replicas_at_work_before_serves_default_has(
    spike: Run, spike_by_default: Run
) -> None:
    def first_of(run: Run, stage: str) -> float:
        grown = [s.at for s in run.seconds if s.at > BEGINS and s.replicas[stage] > 1]
        return min(grown, default=float("inf"))

    for stage in STAGES:
        assert first_of(spike, stage) < first_of(spike_by_default, stage), stage


def test_serves_default_policy_knows_nothing_of_ours(spike_by_default: Run) -> None:
    assert changes(spike_by_default) == []
    assert spike_by_default.result["requests"] > 300
    assert not any(second.gauges for second in spike_by_default.seconds)
