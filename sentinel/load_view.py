"""From what replicas report to what a decision sees: who is heard, what waits, what a row takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.load_report import CPUS, Point, Queue, queue_between, works
from sentinel.scaling import Load, Sight, Stage
from sentinel.scaling_settings import ScalingSettings
from sentinel.service_time import Costs


@dataclass(frozen=True, slots=True)
class StageReports:
    """A stage, and what its replicas reported lately."""

    name: str
    target: int
    lowest: int
    highest: int
    replicas: Mapping[str, Sequence[Point]]
    """For every replica that works its last reports, the oldest first; empty where none came."""
    batch_rows: int = 4_096
    """Most rows of a batch."""


@dataclass(slots=True)
class _Heard:
    newest: float
    """Its newest report, by its own clock."""
    since: float
    """When that was first seen, by ours: two clocks need not agree for a report to grow old."""


class LoadView:
    """Remembers of each stage what a row takes it, and of each replica when it was last heard."""

    def __init__(self, settings: ScalingSettings, queue_stage: str) -> None:
        """``queue_stage``: the stage whose replicas hold the queue before all of them."""
        self._settings = settings
        self._queue_stage = queue_stage
        self._costs: dict[str, Costs] = {}
        self._heard: dict[str, _Heard] = {}

    def sight(self, at: float, reports: Sequence[StageReports]) -> Sight:
        """What is seen at this moment, in seconds by a clock that never goes back."""
        there = {name for stage in reports for name in stage.replicas}
        self._heard = {name: heard for name, heard in self._heard.items() if name in there}
        stages = [self._stage(at, stage) for stage in reports]
        holders = next((one for one in reports if one.name == self._queue_stage), None)
        replicas = {} if holders is None else holders.replicas
        queues: list[Queue] = []
        for name, points in replicas.items():
            queue = queue_between(points[0], points[-1]) if self._fresh(at, name) else None
            if queue is not None:
                queues.append(queue)
        if not queues:
            return Sight(at, None, stages, self._why(at, replicas))
        load = Load(
            sum(queue.waiting for queue in queues),
            sum(queue.flying for queue in queues),
            sum(queue.arrivals for queue in queues),
            complete=len(queues) == len(replicas),
        )
        return Sight(at, load, stages)

    def _stage(self, at: float, stage: StageReports) -> Stage:
        costs = self._costs.get(stage.name, Costs())
        cpus = []
        for name, points in stage.replicas.items():
            if not points:
                continue
            heard = self._heard.get(name)
            known = float("-inf") if heard is None else heard.newest
            # The last one known is where the work since then begins.
            before = [point for point in points if point.at <= known][-1:]
            fresh = [point for point in points if point.at > known]
            if fresh:
                for work in works([*before, *fresh]):
                    costs = costs.learnt(work)
                self._heard[name] = _Heard(fresh[-1].at, at)
            if self._fresh(at, name) and CPUS in points[-1].figures:
                cpus.append(points[-1].figures[CPUS])
        self._costs[stage.name] = costs
        return Stage(
            stage.name,
            stage.target,
            len(stage.replicas),
            stage.lowest,
            stage.highest,
            costs.service(sum(cpus) / len(cpus)) if cpus else None,
            stage.batch_rows,
        )

    def _fresh(self, at: float, replica: str) -> bool:
        heard = self._heard.get(replica)
        return heard is not None and at - heard.since <= self._settings.stale_seconds

    def _why(self, at: float, replicas: Mapping[str, Sequence[Point]]) -> str:
        """Why nothing is known of the queue."""
        if not replicas:
            return f"no replica of {self._queue_stage} works"
        ages = [at - self._heard[name].since for name in replicas if name in self._heard]
        if ages and min(ages) > self._settings.stale_seconds:
            return f"the last report of {self._queue_stage} came {min(ages):.0f} s ago"
        return f"no replica of {self._queue_stage} has reported twice yet"
