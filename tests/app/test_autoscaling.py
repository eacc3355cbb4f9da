"""The policy inside Serve's own machinery: contexts in, replicas out, and never an error."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve._private.autoscaling_state import ApplicationAutoscalingState
from ray.serve._private.common import (
    DeploymentID,
    ReplicaID,
    ReplicaMetricReport,
    TimeStampedValue,
)
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.autoscaling import INTERVAL, ReplicasByQueue, stage_reports
from sentinel.load_report import ARRIVED, BATCHES, CPU, CPUS, DONE, FLYING, WAITING

APP = "sentinel"
ROUTER, XGBOOST = "FraudRouter", "XGBoost"
POLICY = "deployments.autoscaling:ReplicasByQueue"


def counted(at: float, rate: float, waits: float = 0.0) -> dict[str, float]:
    """What a replica of 0.5 CPUs has counted at this second, at 1 ms a row."""
    return {
        WAITING: waits * at,
        FLYING: 0.0,
        ARRIVED: rate * at,
        DONE: rate * at,
        BATCHES: 100 * at,
        CPU: 0.001 * rate * at,
        CPUS: 0.5,
        "running_requests": 3.0,
    }


def series(start: float, figures: Sequence[dict[str, float]]) -> dict[str, list[TimeStampedValue]]:
    """What a replica reports: for each figure its values, a second apart."""
    return {
        name: [TimeStampedValue(start + at, one[name]) for at, one in enumerate(figures)]
        for name in figures[0]
    }


def steady(
    rate: float, start: float = 0.0, waits: float = 0.0
) -> dict[str, list[TimeStampedValue]]:
    return series(1_000 + start, [counted(start + at, rate, waits) for at in range(4)])


def config(**more: Any) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=1, max_replicas=5, upscale_delay_s=0, downscale_delay_s=0, **more
    )


def replica(deployment: str, name: str) -> ReplicaID:
    return ReplicaID(name, DeploymentID(deployment, APP))


@dataclass
class Serve:
    """Serve's controller as far as the policy sees it, with a clock that is told to go on."""

    reports: dict[str, dict[str, Any]]
    """By deployment and replica."""
    targets: dict[str, int] = field(default_factory=dict)
    now: float = 50.0

    def __post_init__(self) -> None:
        self.policy = ReplicasByQueue(clock=lambda: self.now)
        self.targets = {name: max(1, len(there)) for name, there in self.reports.items()}

    def context(self, name: str) -> AutoscalingContext:
        there = {replica(name, one): found for one, found in self.reports[name].items()}
        raw: dict[str, dict[ReplicaID, Any]] = {}
        for one, found in there.items():
            for metric, values in found.items():
                raw.setdefault(metric, {})[one] = values
        return AutoscalingContext(
            deployment_id=DeploymentID(name, APP),
            deployment_name=name,
            app_name=APP,
            current_num_replicas=len(there),
            target_num_replicas=self.targets[name],
            running_replicas=list(there),
            total_num_requests=0.0,
            total_queued_requests=0.0,
            aggregated_metrics={},
            raw_metrics=lambda: raw,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=5,
            policy_state={},
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self.now,
            config=config(),
        )

    def ticks(self, seconds: float) -> dict[str, int]:
        """What was decided when the time has passed, ten calls a second."""
        for _ in range(round(seconds * 10)):
            contexts = {DeploymentID(name, APP): self.context(name) for name in self.reports}
            decided, states = self.policy(contexts)
            assert states == {}
            self.targets.update({key.name: number for key, number in decided.items()})
            self.now += 0.1
        return self.targets


def test_a_context_becomes_what_its_replicas_reported_in_order_of_time() -> None:
    serve = Serve({ROUTER: {"a": steady(100), "b": {}}})
    found = stage_reports(serve.context(ROUTER))
    assert (found.name, found.target, found.lowest, found.highest) == (ROUTER, 2, 1, 5)
    assert [point.at for point in found.replicas["a"]] == [1_000, 1_001, 1_002, 1_003]
    assert found.replicas["a"][1].figures[ARRIVED] == 100
    assert "running_requests" not in found.replicas["a"][1].figures
    assert found.replicas["b"] == []


def test_router_and_lanes_grow_together_by_what_comes_to_the_router() -> None:
    own = {name: values for name, values in steady(1_000).items() if name not in (WAITING, ARRIVED)}
    serve = Serve({ROUTER: {"a": steady(1_000)}, XGBOOST: {"c": own}})
    assert serve.ticks(0.5) == {ROUTER: 1, XGBOOST: 1}
    assert serve.ticks(1) == {ROUTER: 3, XGBOOST: 3}


def test_where_the_models_stand_in_the_router_it_is_sized_alone() -> None:
    serve = Serve({ROUTER: {"a": steady(1_000)}})
    assert serve.ticks(1.5) == {ROUTER: 3}


def test_between_decisions_the_last_one_is_said_again() -> None:
    serve = Serve({ROUTER: {"a": steady(1_000)}})
    serve.ticks(1.2)
    assert serve.targets == {ROUTER: 3}
    serve.targets = {ROUTER: 1}
    serve.now = serve.policy._decided + INTERVAL - 0.2
    assert serve.ticks(0.1) == {ROUTER: 3}


def test_reports_that_do_not_come_any_more_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    serve = Serve({ROUTER: {"a": steady(10), "b": steady(10)}})
    with caplog.at_level(logging.INFO, "ray.serve"):
        serve.ticks(120)
    assert serve.targets == {ROUTER: 2}
    (line,) = caplog.messages
    assert line.startswith("scale: FraudRouter holds: the last report of FraudRouter came ")


def test_a_change_and_the_end_of_a_hold_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    serve = Serve({ROUTER: {"a": {}}})
    with caplog.at_level(logging.INFO, "ray.serve"):
        serve.ticks(1)
        serve.reports = {ROUTER: {"a": steady(1_000)}}
        serve.ticks(2)
    first, second, third = caplog.messages
    assert first == "scale: FraudRouter holds: no replica of FraudRouter has reported twice yet"
    assert second == "scale: FraudRouter goes on: it is known again"
    assert third.startswith(
        "scale: FraudRouter 1 -> 3: 0 rows wait, 0 fly, 1,000 rows/s arrive, 2 ms"
    )


def test_an_error_is_logged_once_a_minute_and_moves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    serve = Serve({ROUTER: {"a": {WAITING: "no series"}}})
    with caplog.at_level(logging.INFO, "ray.serve"):
        serve.ticks(70)
    assert serve.targets == {ROUTER: 1}
    assert caplog.messages == ["scale: holds: no decision could be made"] * 2


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="objective"):
        ReplicasByQueue(objective=50)


def test_serves_own_state_ships_the_policy_and_takes_its_answer() -> None:
    kwargs = {"objective_ms": 50, "grow_seconds": 0}
    policy = AutoscalingPolicy(policy_function=POLICY, policy_kwargs=json.loads(json.dumps(kwargs)))
    state = ApplicationAutoscalingState(APP)
    state.register(policy)
    rates = {ROUTER: 1_000.0, XGBOOST: 10.0}
    for name, rate in rates.items():
        deployment = DeploymentConfig(autoscaling_config=config(look_back_period_s=15))
        info = DeploymentInfo(deployment, None, 0, "job")
        state.register_deployment(DeploymentID(name, APP), info, 1)
        one = replica(name, "a")
        state.update_running_replica_ids(DeploymentID(name, APP), [one])
        begun = time.time() - 4
        metrics = series(begun, [counted(float(at), rate) for at in range(4)])
        state.record_request_metrics_for_replica(ReplicaMetricReport(one, metrics, time.time()))
    now = {DeploymentID(name, APP): 1 for name in rates}
    decided = state.get_decision_num_replicas(now)
    assert {key.name: number for key, number in decided.items()} == {ROUTER: 3, XGBOOST: 3}
