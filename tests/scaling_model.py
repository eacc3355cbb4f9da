"""A model of the service in simulated time: routers that coalesce, two lanes behind them, replicas
that take seconds to start. Whatever sizes them is asked twice a second."""

import itertools
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import simpy

from loadtest.shapes import Shape, share
from sentinel.load_report import LoadReport, Point
from sentinel.load_view import LoadView, StageReports
from sentinel.scaling import Memory, Verdict, decide
from sentinel.scaling_settings import ScalingSettings

ROUTER, FRAUD, NOVELTY = "FraudRouter", "XGBoost", "IsolationForest"
STAGES = (ROUTER, FRAUD, NOVELTY)

ROW, BATCH = 0, 1
WORK = {ROUTER: (0.008, 0.004), FRAUD: (0.0016, 0.008), NOVELTY: (0.006, 0.008)}
"""Seconds a row and a batch of each stage: slower than the real ones, so that a model of minutes
runs in seconds."""

START = 3.0
"""Seconds until a new replica works."""
LOOK = 0.5
"""Seconds between two decisions, and between two reports."""
LOOK_BACK = 3.0
"""Seconds of reports that are kept."""
AGE = 1.0
"""Seconds the oldest row may have waited when another comes; later ones are refused."""
FLIGHT = 512
"""Most rows of a flight."""
OBJECTIVE = 0.2
"""Seconds."""
TICK = 0.02


@dataclass
class Replica:
    """One process: it works on one thing at a time, and counts what it does."""

    name: str
    env: simpy.Environment
    busy: float = 0.0
    calls: int = 0
    """Calls under way at it."""
    points: deque[Point] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.turn = simpy.Resource(self.env)
        self.report = LoadReport(1.0, lambda: self.env.now, lambda: self.busy)

    def work(self, stage: str, rows: int) -> Iterator[Any]:
        self.calls += 1
        with self.turn.request() as turn:
            yield turn
            seconds = WORK[stage][BATCH] + WORK[stage][ROW] * rows
            yield self.env.timeout(seconds)
            self.busy += seconds
            self.report.done(rows)
        self.calls -= 1


class Router(Replica):
    """Coalesces, two flights at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue: deque[float] = deque()
        self.flying = 0
        self.flights = 0

    @property
    def inside(self) -> int:
        """Requests that Serve counts: each is one row."""
        return len(self.queue) + self.flying


class Policy(Protocol):
    """What sizes the stages."""

    def __call__(self, world: "World") -> Mapping[str, int]: ...


class World:
    """The service under a load, sized by a policy. ``run`` it once."""

    def __init__(
        self,
        policy: Policy,
        shape: Shape,
        seconds: float,
        peak: float,
        most: int = 8,
        seed: int = 1,
    ) -> None:
        """``peak``: rows a second where the shape is at its height."""
        self.env = simpy.Environment()
        self.policy, self.shape, self.seconds, self.peak, self.most = (
            policy, shape, seconds, peak, most,
        )  # fmt: skip
        self.random = random.Random(seed)
        self._names = itertools.count()
        self.replicas: dict[str, list[Replica]] = {name: [self._new(name)] for name in STAGES}
        self.targets = dict.fromkeys(STAGES, 1)
        self.changes: list[tuple[float, str, int]] = []
        self.waits: dict[int, list[float]] = {}
        """Seconds from arrival to answer, by the second of the arrival."""
        self.answered = self.refused = 0
        self.replica_seconds = 0.0

    def run(self) -> "World":
        for process in (self._arrivals(), self._looks()):
            self.env.process(process)
        self.env.run(self.seconds)
        return self

    @property
    def late_seconds(self) -> int:
        """Seconds in which more than 5% of the rows were answered after the objective or never."""
        return sum(
            sorted(waits)[max(0, math.ceil(0.95 * len(waits)) - 1)] > OBJECTIVE
            for waits in self.waits.values()
        )

    def routers(self) -> list[Router]:
        return [router for router in self.replicas[ROUTER] if isinstance(router, Router)]

    def _new(self, stage: str) -> Replica:
        name = f"{stage}#{next(self._names)}"
        return Router(name, self.env) if stage == ROUTER else Replica(name, self.env)

    def _arrivals(self) -> Iterator[Any]:
        due = 0.0
        while True:
            due += TICK * self.peak * share(self.shape, self.env.now / self.seconds)
            due *= self.random.uniform(0.9, 1.1)
            for _ in range(int(due)):
                self._arrive()
            due -= int(due)
            yield self.env.timeout(TICK)

    def _arrive(self) -> None:
        router = min(self.routers(), key=lambda one: one.inside)
        router.report.arrived(1)
        if router.queue and self.env.now - router.queue[0] > AGE:
            self.refused += 1
            self.waits.setdefault(int(self.env.now), []).append(math.inf)
            return
        router.queue.append(self.env.now)
        self._changed(router)
        if router.flights < 2:
            router.flights += 1
            self.env.process(self._fly(router))

    def _fly(self, router: Router) -> Iterator[Any]:
        while router.queue:
            # What arrives in the same turn shares the flight.
            yield self.env.timeout(0)
            aboard = [router.queue.popleft() for _ in range(min(FLIGHT, len(router.queue)))]
            if not aboard:
                break
            router.flying += len(aboard)
            self._changed(router)
            yield from router.work(ROUTER, len(aboard))
            lanes = [
                min(self.replicas[lane], key=lambda one: one.calls) for lane in (FRAUD, NOVELTY)
            ]
            yield self.env.all_of(
                [
                    self.env.process(replica.work(lane, len(aboard)))
                    for lane, replica in zip((FRAUD, NOVELTY), lanes, strict=True)
                ]
            )
            router.flying -= len(aboard)
            self._changed(router)
            self.answered += len(aboard)
            for arrived in aboard:
                self.waits.setdefault(int(arrived), []).append(self.env.now - arrived)
        router.flights -= 1

    def _changed(self, router: Router) -> None:
        router.report.queue(len(router.queue), router.flying)

    def _looks(self) -> Iterator[Any]:
        while True:
            yield self.env.timeout(LOOK)
            for replicas in self.replicas.values():
                for replica in replicas:
                    replica.points.append(Point(self.env.now, replica.report.all()))
                    while replica.points[0].at < self.env.now - LOOK_BACK:
                        replica.points.popleft()
            self.replica_seconds += LOOK * sum(self.targets.values())
            for stage, target in self.policy(self).items():
                if target != self.targets[stage]:
                    self._resize(stage, target)

    def _resize(self, stage: str, target: int) -> None:
        target = min(max(target, 1), self.most)
        before, self.targets[stage] = self.targets[stage], target
        self.changes.append((self.env.now, stage, target))
        if target > before:
            self.env.process(self._start(stage))
        while len(self.replicas[stage]) > target:
            # It finishes what it has, and gets no more.
            self.replicas[stage].pop()

    def _start(self, stage: str) -> Iterator[Any]:
        yield self.env.timeout(START)
        while len(self.replicas[stage]) < self.targets[stage]:
            self.replicas[stage].append(self._new(stage))

    def reports(self) -> Sequence[StageReports]:
        return [
            StageReports(
                stage,
                self.targets[stage],
                1,
                self.most,
                {replica.name: list(replica.points) for replica in self.replicas[stage]},
                FLIGHT,
            )
            for stage in STAGES
        ]


class Ours:
    """The policy of ``sentinel.scaling``, with all that leads to it."""

    def __init__(self) -> None:
        self.settings = settings = ScalingSettings(objective_ms=1000 * OBJECTIVE)
        self.view = LoadView(settings, ROUTER)
        self.memory = Memory()
        self.verdicts: list[Verdict] = []

    def __call__(self, world: World) -> Mapping[str, int]:
        sight = self.view.sight(world.env.now, world.reports())
        verdict, self.memory = decide(self.settings, self.memory, sight)
        self.verdicts.append(verdict)
        return verdict.targets
