"""The service beside others, in one run: the same bundle, the same transactions, the same cores.

In each round every contender has its turn: it is started, warmed up, measured at each shape, and
stopped, so that nothing else runs while one is measured; some are busy even when nobody asks them.
A cell is the median of its rounds, so that a noisy moment of the machine falls on one of several.
wrk sends as fast as answers come (closed loop) and shares the cores. Before anything is timed, each
contender's answers are held against offline scoring.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtest.answer_check import WrongAnswer
from loadtest.bench_bundle import write_bench_bundle
from loadtest.cells import SINGLE_64, ServeBench, Shape
from loadtest.contenders import RECIPES, Contender, Recipe
from loadtest.environments import NotMeasurable
from loadtest.overload import overload
from loadtest.processes import ContenderFailed, Started, running
from loadtest.replicas import Core, memory, restart
from loadtest.serving_bodies import bodies_for, check_answers, path_of, shapes_of
from loadtest.serving_report import Found, report
from loadtest.vegeta import attack, vegeta
from loadtest.wrk import Measured, NoWrk, check_wrk, run_wrk

NEEDED = ("limit", "sentinel")
"""Without these there is nothing to report; each other one may be missing, with the reason."""

OPEN_LOOP_SHARE = 0.5
"""The constant rate at which latencies are taken, as a share of what the contender can."""

OPEN_LOOP_CONNECTIONS = 256

OnStep = Callable[[str], None]
Failure = (ContenderFailed, WrongAnswer, NotMeasurable, NoWrk)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long is measured, in seconds each; ``further``: at a constant rate, the overload, memory,
    a restart, and one core, too."""

    rounds: int = 3
    seconds: int = 3
    warm_up: int = 1
    open_loop: int = 5
    further: bool = True


FULL = Plan()


def measure_serving(
    on_step: OnStep = lambda _: None,
    plan: Plan = FULL,
    recipes: Mapping[str, Recipe] = RECIPES,
) -> ServeBench:
    """Every cell, and what only the service is asked.

    :raises NoWrk: there is no load generator.
    :raises ContenderFailed: the limit or the service did not start.
    :raises WrongAnswer: one of them is wrong.
    """
    return report(measure_turns(on_step, plan, recipes))


def measure_turns(on_step: OnStep, plan: Plan, recipes: Mapping[str, Recipe]) -> Found:
    """What these contenders came to, turn by turn."""
    check_wrk()
    with tempfile.TemporaryDirectory() as folder:
        on_step("training the models to serve")
        bundle = str(Path(folder) / "bundle")
        write_bench_bundle(bundle)
        turns = _Turns(plan, bundle, Path(folder), on_step)
        for name, recipe in recipes.items():
            turns.prepare(name, recipe)
        if plan.further:
            turns.prepare_vegeta()
        for number in range(1, plan.rounds + 1):
            for contender in list(turns.contenders):
                turns.take(contender, number)
        if plan.further:
            try:
                turns.one_core()
            except Failure as error:  # what was measured before stays
                turns.found.notes["one core"] = str(error)
    return turns.found


def measure_side_by_side(
    on_step: OnStep, plan: Plan, recipes: Mapping[str, Recipe], shapes: Sequence[Shape]
) -> Found:
    """What these came to while all of them run: quicker, and closer in time to each other, but one
    that is busy when nobody asks it slows the others down."""
    check_wrk()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        on_step("training the models to serve")
        bundle = str(Path(folder) / "bundle")
        write_bench_bundle(bundle)
        turns = _Turns(plan, bundle, Path(folder), on_step)
        up: list[tuple[Contender, Started]] = []
        for name, recipe in recipes.items():
            on_step(f"starting {name}")
            contender = recipe(bundle, Path(folder))
            started = stack.enter_context(running(contender, Path(folder)))
            check_answers(contender, started.url, bundle)
            up.append((contender, started))
        for number in range(plan.rounds + 1):
            when = f"round {number} of {plan.rounds}" if number else "warming up"
            for shape in shapes:
                for contender, started in up:
                    on_step(f"{when}: {contender.name}, {shape}")
                    turns.measure(contender, started, shape, counted=bool(number))
    return turns.found


@dataclass(slots=True)
class _Turns:
    plan: Plan
    bundle: str
    folder: Path
    on_step: OnStep
    contenders: list[Contender] = field(default_factory=list)
    found: Found = field(default_factory=Found)
    _vegeta: Path | None = None

    def prepare(self, name: str, recipe: Recipe) -> None:
        """Makes its environment."""
        self.on_step(f"preparing {name}")
        try:
            self.contenders.append(recipe(self.bundle, self.folder))
        except NotMeasurable as error:
            self.found.reasons[name] = str(error)

    def prepare_vegeta(self) -> None:
        """Builds the load generator of the open loop."""
        self.on_step("building vegeta")
        try:
            self._vegeta = vegeta()
        except NotMeasurable as error:
            self.found.notes["open loop"] = str(error)

    def take(self, contender: Contender, number: int) -> None:
        """One contender's turn in a round; one that fails has no more.

        :raises SentinelError: it is one without which there is nothing to report.
        """
        name = contender.name
        try:
            self.on_step(f"round {number} of {self.plan.rounds}: starting {name}")
            with running(contender, self.folder) as started:
                if number == 1:
                    check_answers(contender, started.url, self.bundle)
                self._measure(contender, started, f"round {number} of {self.plan.rounds}")
                if number == self.plan.rounds and self.plan.further:
                    self._further(contender, started)
        except Failure as error:
            if name in NEEDED:
                raise
            self.contenders.remove(contender)
            self.found.drop(name, str(error).replace(f"{self.folder}/", ""))

    def one_core(self) -> None:
        """The service on one core, and the load generator on another."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            return
        own, other = str(cores[0]), str(cores[1])
        (service,) = (each for each in self.contenders if each.name == "sentinel")
        self.on_step("starting sentinel on one core")
        with running(service.on_cores(own), self.folder) as started:
            rates = [
                self._run(service, started, SINGLE_64, seconds, cores=other).rate
                for seconds in (self.plan.warm_up, *[self.plan.seconds] * self.plan.rounds)
            ]
        rate = round(sorted(rates[1:])[len(rates[1:]) // 2], 1)
        self.found.cores.append(Core(1, "on a core of its own", rate, rate))

    def _measure(self, contender: Contender, started: Started, when: str) -> None:
        for shape in shapes_of(contender):
            self.on_step(f"{when}: {contender.name}, {shape}")
            self.measure(contender, started, shape, counted=False)
            self.measure(contender, started, shape, counted=True)

    def measure(self, contender: Contender, started: Started, shape: Shape, counted: bool) -> None:
        """One cell's share of a round, or what goes before it to warm up and is not counted."""
        seconds = self.plan.seconds if counted else self.plan.warm_up
        measured = self._run(contender, started, shape, seconds)
        if counted:
            self.found.cells.setdefault((contender.name, shape), []).append(measured)

    def _run(
        self,
        contender: Contender,
        started: Started,
        shape: Shape,
        seconds: int,
        cores: str | None = None,
    ) -> Measured:
        before = started.processor_seconds()
        measured = run_wrk(
            started.url,
            path_of(contender, shape),
            bodies_for(contender, shape),
            shape.kind,
            connections=shape.connections,
            seconds=seconds,
            cores=cores,
        )
        used = started.processor_seconds() - before
        return msgspec.structs.replace(measured, processor=max(0, round(1e6 * used)))

    def _further(self, contender: Contender, started: Started) -> None:
        """What is measured once: it may leave a service that needs a while to recover."""
        name = contender.name
        if name == "sentinel":
            self.found.memory = memory(started)
        if self._vegeta is not None:
            try:
                self._open_loop(self._vegeta, contender, started)
            except NotMeasurable as error:
                self.found.notes[f"open loop, {name}"] = str(error)
        if name == "sentinel":
            self.on_step("killing a lane's replica")
            self.found.restart = restart(started)

    def _open_loop(self, tool: Path, contender: Contender, started: Started) -> None:
        name, path = contender.name, contender.dialect.path
        bodies = [template.filled(0, 0) for template in bodies_for(contender, SINGLE_64)]
        peak = self.found.peak(name)
        self.on_step(f"{name} at a constant rate")
        self.found.open_loop[name] = attack(
            tool,
            started.url + path,
            bodies,
            SINGLE_64.kind,
            rate=OPEN_LOOP_SHARE * peak,
            seconds=self.plan.open_loop,
            connections=OPEN_LOOP_CONNECTIONS,
        )
        if name == "sentinel":
            self.on_step(f"overloading {name}")
            self.found.overload = overload(tool, name, started, path, bodies, peak)
