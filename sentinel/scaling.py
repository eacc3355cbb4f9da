"""How many replicas each stage of the work needs: what is seen in, a verdict out.

A *stage* is something that has replicas and passes every row on: the router and the lanes of the
Serve application, or a pool of Kafka workers. One *queue* stands before all of them.

Little's law says what must pass: rows in the system are their rate times their stay. So that rows
stay no longer than they may on average (a share of the objective), the system has to pass

    demand = the larger of  rows that arrive a second, and  rows in it / mean stay

and a stage needs as many replicas as pass that much by its own measured service time. Nobody has to
find the bottleneck: where many rows wait, the stages in which a row costs little still need few.

It grows fast and shrinks slowly. The need to grow must have stood for ``grow_seconds``, and what
waits asks once: while the replicas that it called start and settle, only arrivals ask for more. A
replica goes only where it was not needed at any moment of ``shrink_seconds``, by a stricter measure
of need (``shrink_busy``), and ``cooldown_seconds`` after the last change. What is not known changes
nothing: without a report nothing moves, and with half of them nothing shrinks.

Knows no Ray and no Kafka, and no clock: seconds come with what is seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sentinel.scaling_settings import ScalingSettings
from sentinel.service_time import ServiceTime


@dataclass(frozen=True, slots=True)
class Load:
    """What the queue before all stages holds and gets."""

    waiting: float
    """Rows that wait, the mean of the last seconds."""
    flying: float
    """Rows that are being scored, likewise."""
    arrivals: float
    """Rows a second that arrive, those refused for want of room included."""
    complete: bool = True
    """Whether everybody who should report has; if not, these are the least that there can be."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as it is now."""

    name: str
    target: int
    """Replicas there should be by the last decision."""
    running: int
    """Replicas that work."""
    lowest: int
    highest: int
    service: ServiceTime | None
    """What a row takes one replica; ``None`` while it is not known."""
    batch_rows: int = 4_096
    """Most rows of a batch."""


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is seen at one moment."""

    at: float
    """Seconds, by any clock that never goes back."""
    load: Load | None
    """``None`` where there is no report that is good."""
    stages: Sequence[Stage]
    why_unknown: str = "nobody reports"
    """Why there is no load."""


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """What is decided for one stage."""

    name: str
    before: int
    target: int
    need: float | None
    """Replicas that the demand takes at ``grow_busy``, in fractions; ``None`` while unknown."""
    reason: str
    service: ServiceTime | None = None

    @property
    def changed(self) -> bool:
        return self.target != self.before


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided, and on what grounds."""

    stages: tuple[StageVerdict, ...]
    load: Load | None
    ahead: float | None
    """Rows a second that are expected to arrive when a replica started now would work."""
    demand: float | None
    """Rows a second that must pass."""

    @property
    def targets(self) -> dict[str, int]:
        """Replicas of each stage."""
        return {stage.name: stage.target for stage in self.stages}

    def lines(self) -> list[str]:
        """One readable line for each stage that changes."""
        return [
            f"scale: {stage.name} {stage.before} -> {stage.target}: {stage.reason}"
            for stage in self.stages
            if stage.changed
        ]


@dataclass(frozen=True, slots=True)
class _Needs:
    at: float
    grow: int
    shrink: int


@dataclass(frozen=True, slots=True)
class _History:
    """What a stage needed in the last seconds, the oldest first, and when it changed."""

    needs: tuple[_Needs, ...] = ()
    growing_since: float | None = None
    """Since when its needs are known without a gap."""
    shrinking_since: float | None = None
    """Since when they are known from everybody, without a gap."""
    changed: float = -math.inf


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision needs of the ones before."""

    histories: Mapping[str, _History] = field(default_factory=dict)
    arrivals: tuple[tuple[float, float], ...] = ()
    """(seconds, rows a second), the oldest first."""


def decide(settings: ScalingSettings, memory: Memory, sight: Sight) -> tuple[Verdict, Memory]:
    """The verdict on what is seen, and what to remember for the next."""
    load = sight.load
    if load is None:
        held = tuple(_held(stage, sight.why_unknown) for stage in sight.stages)
        gaps = {name: _gap(history) for name, history in memory.histories.items()}
        return Verdict(held, None, None, None), Memory(gaps)
    seen = (*memory.arrivals, (sight.at, load.arrivals))
    arrivals = tuple(one for one in seen if one[0] >= sight.at - settings.trend_seconds)
    ahead = _ahead(settings, arrivals)
    demand = max(ahead, (load.waiting + load.flying) / settings.mean_stay)
    verdicts, histories = [], {}
    for stage in sight.stages:
        before = memory.histories.get(stage.name, _History())
        settling = sight.at - before.changed < settings.settle_seconds
        asked = ahead if settling or stage.running < stage.target else demand
        verdict, history = _judge(settings, before, sight, load, asked, demand, stage)
        verdicts.append(verdict)
        histories[stage.name] = history
    return Verdict(tuple(verdicts), load, ahead, demand), Memory(histories, arrivals)


def capacity(settings: ScalingSettings, service: ServiceTime, batch_rows: int) -> float:
    """Rows a second that one replica passes, in the largest batches that the objective allows.

    At least half of a batch's time counts for its rows, even where what a batch takes by itself is
    too much for the objective: more replicas would not make it take less.
    """
    row, batch = service.row_seconds, service.batch_seconds
    allowed = max(settings.batch_share * settings.objective - batch, batch)
    rows = min(max(1.0, allowed / row), float(batch_rows))
    return rows / (batch + rows * row)


def _ahead(settings: ScalingSettings, arrivals: Sequence[tuple[float, float]]) -> float:
    """The rate to expect: where it grows, where that leads to."""
    (first, _), (last, now) = arrivals[0], arrivals[-1]
    middle = (first + last) / 2
    older = [rate for at, rate in arrivals if at <= middle]
    newer = [rate for at, rate in arrivals if at > middle]
    if not newer:
        return now
    growth = sum(newer) / len(newer) - sum(older) / len(older)
    slope = growth / ((last - first) / 2)
    return min(now + max(0.0, slope) * settings.lead_seconds, now * settings.lead_limit)


def _judge(
    settings: ScalingSettings,
    history: _History,
    sight: Sight,
    load: Load,
    asked: float,
    demand: float,
    stage: Stage,
) -> tuple[StageVerdict, _History]:
    """``asked``: rows a second to grow for; ``demand``: to shrink to, no fewer."""
    if stage.service is None and demand > 0:
        return _held(stage, "what a row takes it is not known"), _gap(history)
    passes = math.inf
    if stage.service is not None:
        passes = capacity(settings, stage.service, stage.batch_rows)
    need = asked / passes / settings.grow_busy
    shrink = math.ceil(demand / passes / settings.shrink_busy)
    history = _seen(settings, history, _Needs(sight.at, math.ceil(need), shrink), load.complete)
    target, why = _target(settings, history, sight.at, stage)
    target = min(max(target, stage.lowest), stage.highest)
    if target != stage.target:
        history = replace(history, changed=sight.at)
    grounds = _grounds(settings, load, asked, stage, passes, need)
    why = f"{grounds}{why}"
    return StageVerdict(stage.name, stage.target, target, need, why, stage.service), history


def _target(
    settings: ScalingSettings, history: _History, at: float, stage: Stage
) -> tuple[int, str]:
    """How many there should be before bounds, and what else is to say about it."""
    now = stage.target
    stood = at - settings.grow_seconds
    grow = min((need.grow for need in history.needs if need.at >= stood), default=now)
    if grow > now:
        if history.growing_since is None or history.growing_since > stood:
            return now, "; not for long enough yet"
        return grow, ""
    past = at - settings.shrink_seconds
    shrink = max((need.shrink for need in history.needs if need.at >= past), default=now)
    if shrink >= now or stage.lowest >= now:
        return now, ""
    if history.shrinking_since is None or history.shrinking_since > past:
        return now, "; fewer would do, not for long enough yet"
    if at - history.changed < settings.cooldown_seconds:
        return now, "; fewer would do, but it changed just now"
    going = max(1, math.floor(settings.shrink_share * now))
    return max(shrink, now - going), ""


def _seen(settings: ScalingSettings, history: _History, needs: _Needs, complete: bool) -> _History:
    since, at = history.shrinking_since, needs.at
    stood, past = at - settings.grow_seconds, at - settings.shrink_seconds
    # One that asked for no more replicas than a later one has no say in whether they may go.
    kept = (
        need
        for need in history.needs
        if need.at >= stood or (need.at >= past and need.shrink > needs.shrink)
    )
    return replace(
        history,
        needs=(*kept, needs),
        growing_since=at if history.growing_since is None else history.growing_since,
        shrinking_since=(at if since is None else since) if complete else None,
    )


def _gap(history: _History) -> _History:
    """After a gap it is not known what was needed meanwhile: every window begins anew."""
    return _History(changed=history.changed)


def _held(stage: Stage, why: str) -> StageVerdict:
    target = min(max(stage.target, stage.lowest), stage.highest)
    return StageVerdict(stage.name, stage.target, target, None, f"holds: {why}", stage.service)


def _grounds(
    settings: ScalingSettings,
    load: Load,
    asked: float,
    stage: Stage,
    passes: float,
    need: float,
) -> str:
    waiting, flying, arrivals = load.waiting, load.flying, load.arrivals
    said = f"{waiting:,.0f} rows wait, {flying:,.0f} fly, {arrivals:,.0f} rows/s arrive"
    if not load.complete:
        said += " (some do not report)"
    if stage.service is None:
        return f"{said}: nothing to do"
    row, batch = 1000 * stage.service.row_seconds, 1000 * stage.service.batch_seconds
    return (
        f"{said}, {row:,.3g} ms a row and {batch:,.3g} ms a batch: {asked:,.0f} rows/s must pass "
        f"for {settings.objective_ms:g} ms, one replica passes {passes:,.0f}, so {need:,.2f} are "
        f"needed at {settings.grow_busy:.0%}"
    )
