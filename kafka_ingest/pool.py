"""The pool: as many workers as the lag wants, each in a slot of its own; who fails is replaced.

A slot's transactional id outlives its worker, so that the next one shuts the last one out. All
workers end with the process that supervises them: Ray sees to that, however it ends.
"""

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from kafka_ingest.actor import LABELS, Job, WorkerActor, WorkerState
from kafka_ingest.backlog import BacklogEye, Look
from kafka_ingest.connection import KafkaFailed
from kafka_ingest.errors import Fenced, WorkerFailed
from kafka_ingest.metrics import PoolMetrics
from kafka_ingest.outgoing import Counts
from sentinel.pool_size import Backlog, PoolByLag, Progress

logger = logging.getLogger("sentinel.kafka")

LOOK_SECONDS = 1.0
"""Between two looks at the workers and the lag."""

PATIENCE = 30.0
"""Seconds that the first look and the last wait for brokers that are not ready yet."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that failed is started again: first, doubled each time, and at most."""

WELL_SECONDS = 60.0
"""A worker that lasted so long failed for the first time."""

MOST_FENCED = 3
"""Workers of a slot shut out one after the other before another pool is taken to be at work."""

STATE_SECONDS = 5.0
"""Longest wait for a worker to say how it does."""


@dataclass(slots=True)
class _Slot:
    name: str
    actor: Any
    running: Any
    started: float
    number: int
    stopping: bool = False


@dataclass(slots=True)
class _Failures:
    """What is remembered of a slot whose workers failed."""

    pause: float = FIRST_PAUSE
    not_before: float = 0.0
    fenced: int = 0


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many workers: bounds that a person gave."""

    lowest: int = 1
    highest: int = 2


@dataclass(slots=True)
class Result:
    """What a pool's run came to."""

    counts: Counts
    seconds: float
    restarts: int
    done: "Done"


@dataclass(slots=True)
class Done:
    """What workers, labels' too, say that they did; one whose process died says nothing."""

    batches: int = 0
    commits: int = 0
    aborts: int = 0
    """Transactions given up and done again."""
    waits: Tally[str] = field(default_factory=Tally)
    """How often a batch had to wait, by why."""

    def add(self, state: WorkerState) -> None:
        """One more worker's."""
        self.batches += int(state.progress.batches)
        self.commits += state.commits
        self.aborts += state.aborts
        self.waits.update(state.waits)


class Pool:
    """Workers on one topic, in this event loop's process's care."""

    def __init__(
        self,
        job: Job,
        size: PoolSize,
        eye: BacklogEye,
        on_look: Callable[[Look, int], object] = lambda *_: None,
    ) -> None:
        """``on_look`` is told of the backlog and the number of workers, once a second."""
        self._job, self._eye, self._on_look = job, eye, on_look
        highest = max(1, min(size.highest, eye.partitions))  # a worker without partition idles
        lowest = min(size.lowest, highest)
        self._static = lowest == highest
        self._policy = PoolByLag(lowest, highest, batch_rows=job.settings.batch_records)
        self._wanted = lowest
        self._slots: dict[str, _Slot] = {}
        self._failures: dict[str, _Failures] = {}
        self._done = Done()
        self._metrics = PoolMetrics()
        self._numbers = 0
        self.restarts = 0
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Workers commit what is under way, then ``run`` returns."""
        self._stop.set()

    async def run(self, until_caught_up: bool = False) -> Result:
        """Supervises until it is told to stop, or the group has reached the ends of now.

        :raises WorkerFailed: another pool has its place.
        :raises KafkaFailed: the brokers do not answer at the start.
        """
        start = time.monotonic()
        first = last = await asyncio.to_thread(self._eye.look, PATIENCE)
        try:
            while not self._stop.is_set():
                if until_caught_up and last.reached(first.ends):
                    break
                await self._reap()
                look = await self._look()
                self._decide(look, await self._states())
                last = look or last
                await self._sleep(LOOK_SECONDS)
        finally:
            await self._end()
        last = await asyncio.to_thread(self._eye.look, PATIENCE)
        counts, seconds = last.counts - first.counts, time.monotonic() - start
        return Result(counts, seconds, self.restarts, self._done)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _look(self) -> Look | None:
        try:
            return await asyncio.to_thread(self._eye.look)
        except KafkaFailed as error:
            logger.warning("the backlog is not known: %s", error)
            return None

    def _decide(self, look: Look | None, states: Mapping[str, WorkerState]) -> None:
        backlog = None if look is None else Backlog(look.lag, sum(look.ends.values()))
        progress: dict[str, Progress] = {
            f"{name}.{self._slots[name].number}": state.progress
            for name, state in states.items()
            if name != LABELS
        }
        verdict = self._policy.decide(time.monotonic(), backlog, progress)
        if verdict.changed:
            logger.info("workers: %s to %s: %s", self._wanted, verdict.target, verdict.reason)
        self._wanted = verdict.target
        names = [LABELS, *map(str, range(self._wanted))]
        for name in names:
            if name not in self._slots:
                self._start(name)
        for name, slot in self._slots.items():
            if name not in names and not slot.stopping:
                slot.stopping = True
                slot.actor.stop.remote()
        workers = len(self._slots) - (LABELS in self._slots)
        self._metrics.show(None if look is None else look.lag, workers, self._wanted)
        if look is not None:
            self._on_look(look, workers)

    def _start(self, name: str) -> None:
        if time.monotonic() < self._failures.setdefault(name, _Failures()).not_before:
            return
        kind: Any = ray.remote(WorkerActor)
        actor = kind.options(num_cpus=0, max_restarts=0, max_concurrency=16).remote(
            self._job, name, self._static and name != LABELS
        )
        self._numbers += 1
        running = asyncio.ensure_future(_result(actor.run.remote()))
        self._slots[name] = _Slot(name, actor, running, time.monotonic(), self._numbers)

    async def _reap(self) -> None:
        """Takes note of workers that ended.

        :raises WorkerFailed: another pool shuts them out again and again.
        """
        for name, slot in list(self._slots.items()):
            if not slot.running.done():
                continue
            del self._slots[name]
            await self._let_go(slot)
            error = slot.running.result()
            if error is not None:
                self._failed(slot, error)

    def _failed(self, slot: _Slot, error: BaseException) -> None:
        failures = self._failures[slot.name]
        now = time.monotonic()
        if now - slot.started > WELL_SECONDS:
            failures.pause, failures.fenced = FIRST_PAUSE, 0
        failures.fenced = failures.fenced + 1 if isinstance(error, Fenced) else 0
        logger.warning("worker %s failed: %s", slot.name, _first_line(error))
        if failures.fenced >= MOST_FENCED:
            group = self._job.settings.group
            raise WorkerFailed(
                f"group {group!r}: another pool has the same transactional ids; expected one pool "
                "a group: stop the other, or choose another --group"
            ) from error
        self.restarts += 1
        self._metrics.restarted()
        failures.not_before = now + failures.pause
        failures.pause = min(2 * failures.pause, LONGEST_PAUSE)

    async def _states(self) -> dict[str, WorkerState]:
        names = list(self._slots)
        asked = [_state(self._slots[name].actor) for name in names]
        found = zip(names, await asyncio.gather(*asked), strict=True)
        return {name: state for name, state in found if state is not None}

    async def _end(self) -> None:
        """Workers stop in good order; one that cannot is ended."""
        for slot in self._slots.values():
            slot.actor.stop.remote()
        running = [slot.running for slot in self._slots.values()]
        if running:
            await asyncio.wait(running, timeout=self._job.settings.drain_s + 5)
        await asyncio.gather(*map(self._let_go, self._slots.values()))
        self._slots.clear()

    async def _let_go(self, slot: _Slot) -> None:
        """Takes down what a worker that has ended came to, and ends its process."""
        state = await _state(slot.actor)
        if state is not None:
            self._done.add(state)
        ray.kill(slot.actor)


async def _result(running: Any) -> BaseException | None:
    """What a worker ended with: ``None`` where it was told to."""
    try:
        await running
    except RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except RayError as error:
        return error
    return None


async def _state(actor: Any) -> WorkerState | None:
    try:
        async with asyncio.timeout(STATE_SECONDS):
            return await actor.state.remote()
    except (TimeoutError, RayError):
        return None


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
