"""What profiles cost the service: the same raw transactions judged with them and without.

One service at a time, since one Ray fits on a machine; within it the bundle is changed from round
to round (SIGHUP), so that both are measured in the same processes in turn. The bundle without
profiles has the features that need a transaction alone, and models of the same size. First with
profiles in memory, then on a Redis server of the bench's own.

Every transaction is sent once, with an id that was never used and later than all before it, at the
pace at which the profiles were filled.
"""

import os
import re
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from loadtest.answer_check import check_near, post
from loadtest.bench_bundle import Pair, write_pair
from loadtest.cells import SHAPES, SINGLE_1, SINGLE_64, Row, ServeBench, Shape, cell_of, ratios_of
from loadtest.contenders import service
from loadtest.payments import CUSTOMERS, PACE, START, batches, frauds, payments
from loadtest.processes import ContenderFailed, Started, running
from loadtest.redis_server import CONDITIONS, NO_REDIS, redis_running, redis_version
from loadtest.templates import (
    Template,
    Traffic,
    arrow_template,
    json_template,
    run_numbers,
    single_templates,
)
from loadtest.wrk import SPARE, Measured, check_wrk, run_wrk
from sentinel.answers import ARROW, JSON, answers
from sentinel.bundle import open_bundle
from sentinel.history import history_of
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline
from sentinel.transactions import concatenate

ROUNDS = 3
SECONDS = 3
WARM_UP = 1
PAST_DAYS = 67
"""The longest window of the ``transactions`` description, and how late a payment may come."""

BODIES = 16
"""Batches that are sent in turn; of single transactions as many as there are customers."""

CHECKED = 20
"""Rows of each kind of request whose answers are held against offline ones."""

SWITCH_SECONDS = 30.0
METRICS_SECONDS = 60.0

Cells = dict[tuple[str, Shape], list[Measured]]
OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Phase:
    """The names of the service with profiles and without, while they are kept in one place."""

    profiles: str
    stateless: str
    goal: float
    """The least share of the requests a second that profiles should leave."""


MEMORY = Phase("sentinel-profiles", "sentinel-stateless", 0.7)
REDIS = Phase("sentinel-profiles-redis", "sentinel-stateless-redis", 0.5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a phase came to; ``degraded``: transactions that were judged without something."""

    phase: Phase
    cells: Cells
    degraded: int
    note: str = ""


def measure_profile_serving(
    on_step: OnStep = lambda _: None, phases: Sequence[Phase] = (MEMORY, REDIS)
) -> ServeBench:
    """Every cell of the table.

    :raises NoWrk: there is no load generator.
    :raises ContenderFailed: the service did not start, or does not take a bundle.
    :raises WrongAnswer: it is wrong.
    """
    check_wrk()
    outcomes, reasons = [], {}
    with tempfile.TemporaryDirectory() as folder:
        on_step("filling profiles and training the models to serve")
        count = round(PAST_DAYS * 86_400 / PACE)
        pair = write_pair(folder, payments(count, 1), frauds(count, 2))
        version = redis_version()
        for phase in phases:
            if phase is MEMORY:
                outcomes.append(_measure(phase, pair, Path(folder), (), on_step))
            elif version is None:
                reasons[phase.profiles] = NO_REDIS
            else:
                with redis_running(Path(folder)) as uri:
                    found = _measure(phase, pair, Path(folder), ("--profiles", uri), on_step)
                note = f"redis-server {version}, {CONDITIONS}"
                outcomes.append(Outcome(phase, found.cells, found.degraded, note))
    return report(outcomes, reasons)


def report(outcomes: Sequence[Outcome], reasons: dict[str, str]) -> ServeBench:
    """What these phases came to; ``reasons`` for contenders that were not measured."""
    contenders: dict[str, Row | None] = dict.fromkeys(reasons)
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    goals: dict[str, float] = {}
    for outcome in outcomes:
        phase = outcome.phase
        cells = {key: cell_of(*key, measured) for key, measured in outcome.cells.items()}
        own = (phase.profiles, SINGLE_64)
        contenders[phase.profiles] = cells[own]
        rows += [row for key, row in cells.items() if key != own]
        ratios |= ratios_of(phase.profiles, phase.stateless, cells, SHAPES)
        goals[f"{phase.profiles}/{phase.stateless}, {SINGLE_64}"] = phase.goal
    return ServeBench(
        contenders=contenders,
        reasons=reasons,
        rows=rows,
        ratios=ratios,
        goals=goals,
        notes={each.phase.profiles: each.note for each in outcomes if each.note},
        degraded={each.phase.profiles: each.degraded for each in outcomes},
    )


class Switch:
    """Changes the bundle of a running service: the folder that it was told of is a link."""

    def __init__(self, link: Path) -> None:
        self._link = link

    def point(self, place: str) -> None:
        """The link leads to this bundle from now on."""
        following = self._link.with_suffix(".next")
        following.symlink_to(place)
        following.rename(self._link)

    def to(self, service: Started, place: str, digest: str) -> None:
        """Has it serve this bundle, and waits until it says so.

        :raises ContenderFailed: it does not.
        """
        self.point(place)
        os.kill(service.pid, signal.SIGHUP)
        deadline = time.monotonic() + SWITCH_SECONDS
        while time.monotonic() < deadline:
            if _version_of(service.url) == digest:
                return
            time.sleep(0.1)
        raise ContenderFailed(
            f"{service.url} was told of bundle {digest[:12]}, and does not serve it"
        )


def _measure(
    phase: Phase, pair: Pair, folder: Path, options: Sequence[str], on_step: OnStep
) -> Outcome:
    link = folder / f"{phase.profiles}.served"
    switch, numbers = Switch(link), run_numbers()
    switch.point(pair.profiles[0])
    on_step(f"starting {phase.profiles}")
    end = START + PAST_DAYS * 86_400.0
    bundles = {phase.stateless: pair.stateless, phase.profiles: pair.profiles}
    traffic = {name: Traffic(numbers, end, PACE) for name in bundles}
    bodies = {shape: bodies_of(shape) for shape in SHAPES}
    cells: Cells = {}
    with running(service(phase.profiles, str(link), folder, *options), folder) as started:
        for number in range(ROUNDS + 1):
            for name, bundle in bundles.items():
                on_step(f"changing the bundle, to {name}")
                switch.to(started, *bundle)
                if not number:
                    on_step(f"checking the answers of {name}")
                    check_answers(name, started.url, bundle[0], traffic[name])
                for shape in SHAPES:
                    doing = f"round {number} of {ROUNDS}" if number else "warming up"
                    on_step(f"{doing}: {name}, {shape}")
                    found = _run(started.url, shape, bodies[shape], traffic[name], bool(number))
                    if number:
                        cells.setdefault((name, shape), []).append(found)
        on_step("reading how many answers were degraded")
        degraded = degraded_rows(started.url, cells)
    return Outcome(phase, cells, degraded)


def _run(
    url: str, shape: Shape, bodies: Sequence[Template], traffic: Traffic, measured: bool
) -> Measured:
    fill = traffic.next_run(shape.rows)
    found = run_wrk(
        url,
        shape.path,
        bodies,
        shape.kind,
        connections=shape.connections,
        seconds=SECONDS if measured else WARM_UP,
        fill=fill,
    )
    traffic.ran(fill, found.requests + shape.connections + SPARE)
    return found


def bodies_of(shape: Shape) -> list[Template]:
    """What is sent in turn."""
    if shape.rows == 1:
        return single_templates(payments(CUSTOMERS, 11))
    make = arrow_template if shape.kind == ARROW else json_template
    return [make(batch) for batch in batches(payments(BODIES * shape.rows, 12), shape.rows)]


def check_answers(name: str, url: str, bundle: str, traffic: Traffic) -> None:
    """Sends a few transactions in each way, one request after the other.

    :raises WrongAnswer: an answer is not that of offline scoring.
    """
    opened = open_bundle(bundle)
    judge, history = opened.judge(), history_of(opened)
    as_json, as_arrow = JsonParser(judge.description), ArrowParser(judge.description)
    few = payments(CHECKED, 13)
    got, sent = [], []
    for template in single_templates(few):
        body = _next(template, traffic)
        got.append(msgspec.json.decode(post(url, SINGLE_1.path, JSON, body)))
        sent.append(as_json.one(body))
    body = _next(json_template(few), traffic)
    got += msgspec.json.decode(post(url, "/predict/batch", JSON, body))["results"]
    sent.append(as_json.many(body).all_or_raise())
    body = _next(arrow_template(few), traffic)
    got += pa.ipc.open_stream(post(url, "/predict/batch", ARROW, body)).read_all().to_pylist()
    sent.append(as_arrow.stream(body).all_or_raise())
    rows = concatenate(sent)
    behaviour = None if history is None else history.note(rows)
    check_near(name, got, answers(score_offline(judge, opened.lanes(), rows, behaviour)))


def _next(template: Template, traffic: Traffic) -> bytes:
    fill = traffic.next_run(template.rows)
    # A batch is spread over 71 minutes at most, and nothing may be older than it.
    traffic.ran(fill, max(1, round(2 * 3600 / fill.step)))
    return template.filled(fill.number, fill.seconds)


def degraded_rows(url: str, cells: Cells) -> int:
    """How many transactions were judged without something, once all of these were counted.

    :raises ContenderFailed: they are not: metrics are seconds behind, not a minute.
    """
    sent = sum(each.requests * shape.rows for (_, shape), runs in cells.items() for each in runs)
    deadline = time.monotonic() + METRICS_SECONDS
    while True:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            page = answer.read().decode()
        scored = sum(_values(page, "sentinel_rows", 'outcome="scored"'))
        if scored >= sent:
            return round(sum(_values(page, "sentinel_degraded_rows")))
        if time.monotonic() > deadline:
            raise ContenderFailed(f"{url}/metrics counts {scored:,.0f} rows of {sent:,} answered")
        time.sleep(1)


def _values(page: str, name: str, label: str = "") -> Iterator[float]:
    for labels, value in re.findall(rf"^ray_{name}_total{{(.*)}} (\S+)$", page, re.MULTILINE):
        if label in labels:
            yield float(value)


def _version_of(url: str) -> str | None:
    """What it says that it serves; ``None`` where it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:
            version: str | None = msgspec.json.decode(answer.read()).get("model_version")
    except OSError:
        return None
    return version
