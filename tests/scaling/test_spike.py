"""A spike on the real service: replicas come, replicas go, and nobody is told no."""

import pytest

from deployments.autoscaling import INTERVAL
from loadtest.scale_run import STAGES, Run
from tests.scaling.conftest import BEGINS, changes

PROMISED = 5.0
"""Seconds from a spike to the decision for more replicas, beside the interval of decisions."""
FOLLOWED = 1.0
"""A load follows its shape once a second."""


@pytest.mark.parametrize("stage", STAGES)
def test_each_deployment_grows_within_five_seconds_of_the_spike(spike: Run, stage: str) -> None:
    own = [(at, after) for at, name, _, after in changes(spike) if name == stage]
    before = [after for at, after in own if at <= BEGINS]
    assert before[-1:] in ([], [1]), spike.lines
    grown = [at for at, _ in own if at > BEGINS]
    assert grown, spike.lines
    assert grown[0] <= BEGINS + FOLLOWED + INTERVAL + PROMISED, spike.lines


@pytest.mark.parametrize("stage", STAGES)
def test_each_deployment_is_back_at_its_minimum_in_the_end(spike: Run, stage: str) -> None:
    last = [after for _, name, _, after in changes(spike) if name == stage][-1]
    assert last == 1, spike.lines
    assert max(second.replicas[stage] for second in spike.seconds) >= 2
    assert spike.seconds[-1].replicas[stage] == 1


def test_no_request_failed_while_replicas_came_and_went(spike: Run) -> None:
    assert spike.result["failed"] == 0, spike.result["problems"]
    assert spike.result["requests"] > 300


def test_what_the_policy_saw_stands_on_the_metrics_page(spike: Run) -> None:
    highest = {name: max(s.gauges.get(name, 0) for s in spike.seconds) for name in STAGES}
    assert min(highest.values()) >= 2
    assert max(s.gauges.get("arrivals", 0) for s in spike.seconds) > 500
