"""One load on a service of its own, and how many replicas there were in every second of it."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec
import psutil
import yaml

from loadtest.serve_configs import shipped, sized
from loadtest.shapes import Shape
from sentinel.errors import SentinelError

STAGES = ("FraudRouter", "XGBoost", "IsolationForest")
SMALL_CPUS = {"FraudRouter": 0.1}
OTHERS_CPUS = 0.04
"""What a replica reserves here: so little that a load which two cores bear, beside who makes it and
beside replicas that start, is too much for one of each."""
START_SECONDS, STOP_SECONDS = 180.0, 90.0
BUSY_SECONDS = 3.0
GAUGES = ("waiting_rows", "flying_rows", "arrivals", "demand")


class CannotRun(SentinelError):
    """The service did not start, or the load could not be put on it."""


class Plan(msgspec.Struct, frozen=True):
    """What is run."""

    policy: Mapping[str, float] | None
    """Settings of our policy (``ScalingSettings``); ``None`` for Serve's default one."""
    shape: Shape = Shape.SPIKE
    users: int = 20
    pause: float = 1.0
    """Seconds between an answer and a user's next request, on average."""
    rows: int = 80
    """Of a JSON batch; 1 for single transactions."""
    seconds: float = 60
    warm_up: float = 20
    """Seconds of the first load before: a new process takes long over its first requests."""
    after: float = 30
    """Seconds to look on when the load has ended."""
    most: int = 2
    """Most replicas of each: on two cores, more that start at once leave none to answer with."""


class Second(msgspec.Struct, frozen=True):
    """One second of a run. Replicas are processes: also one that starts, or answers its last."""

    at: float
    """Seconds since the load began; while it runs, since the epoch."""
    replicas: Mapping[str, int]
    gauges: Mapping[str, float]
    load: Mapping[str, Any] | None
    """What the load saw (``loadtest.timeline``), while it was there."""


class Run(msgspec.Struct, frozen=True):
    """What came of it."""

    plan: Plan
    seconds: Sequence[Second]
    result: Mapping[str, Any]
    """What ``sentinel load`` printed."""
    lines: Sequence[str]
    """The policy's lines in the log of Serve's controller."""
    busy_with_others: tuple[float, float] = (0.0, 0.0)
    """Share of the cores' time that others took just before the service started, and just after it
    stopped: a figure of a machine that is busy otherwise says little."""

    @property
    def replica_seconds(self) -> float:
        """Processes times seconds, from the beginning to the end of the load."""
        during = [second for second in self.seconds if second.load is not None]
        return float(sum(sum(second.replicas.values()) for second in during))

    def late_seconds(self, p95_ms: float) -> int:
        """Seconds in which 95% of the answers took longer. One without any answer is late if the
        next with some is: few users that pause may all do so at once."""
        seen = [second.load["p95_ms"] for second in self.seconds if second.load is not None]
        late, next_ms = 0, math.inf
        for ms in reversed(seen):
            next_ms = next_ms if ms is None else ms
            late += next_ms > p95_ms
        return late


def config_for(plan: Plan, bundle: str) -> dict[str, Any]:
    """The shipped Serve config with small replicas, the bundle, and the plan's policy."""
    content = shipped()
    (application,) = content["applications"]
    if plan.policy is None:
        application.pop("autoscaling_policy", None)
    else:
        application["autoscaling_policy"]["policy_kwargs"] = dict(plan.policy)
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {
            "num_cpus": SMALL_CPUS.get(deployment["name"], OTHERS_CPUS)
        }
        deployment["user_config"] = {"bundle": os.path.abspath(bundle)}
    for deployment in sized(content):
        bounds = {"min_replicas": 1, "max_replicas": plan.most}
        kept = {} if plan.policy is None else deployment["autoscaling_config"]
        deployment["autoscaling_config"] = {**kept, **bounds}
    return content


def run(
    plan: Plan, bundle: str, folder: Path, watch: Callable[[Second], object] = lambda _: None
) -> Run:
    """Serves the bundle, puts the load on it, and looks on.

    :raises CannotRun: it did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(config_for(plan, bundle)), encoding="utf-8")
    before = _busy()
    with _serving(config, folder) as (process, url):
        seconds, result = _loaded(plan, url, process, folder, watch)
        lines = _lines(process)
    return Run(plan, seconds, result, lines, (before, _busy()))


def _busy() -> float:
    return round(psutil.cpu_percent(BUSY_SECONDS) / 100, 3)


@contextmanager
def _serving(config: Path, folder: Path) -> Iterator[tuple[psutil.Popen, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "serve.log"
    with log.open("wb") as output:
        process = psutil.Popen(
            [*_sentinel(), "serve", "--port", str(port), str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd=folder,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _page(url, "/ready"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise CannotRun(f"the service did not start: {_last_line(log)}")
                time.sleep(0.5)
            yield process, url
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)


def _loaded(
    plan: Plan, url: str, process: psutil.Popen, folder: Path, watch: Callable[[Second], object]
) -> tuple[list[Second], dict[str, Any]]:
    timeline, out = folder / "timeline.jsonl", folder / "load.json"
    kind = ("json", "--rows", str(plan.rows)) if plan.rows > 1 else ("single",)
    words = (
        *_sentinel(), "load", "--url", url, "--json", "--timeline", str(timeline),
        "--users", str(plan.users), "--duration", str(plan.seconds), "--shape", plan.shape,
        "--warm-up", str(plan.warm_up), "--timeout", "60", "--pause", str(plan.pause),
        "--kind", *kind,
    )  # fmt: skip
    seen: list[Second] = []
    with out.open("wb") as output, (folder / "load.log").open("wb") as said:
        load = subprocess.Popen(words, stdout=output, stderr=said, env=_environment())
        try:
            ended, exporter = math.inf, _exporter(process)
            while time.monotonic() < ended + plan.after:
                begun = time.monotonic()
                if load.poll() is not None:
                    ended = min(ended, begun)
                gauges = _gauges(_page(exporter, "/metrics"))
                second = Second(time.time(), _replicas(process), gauges, None)
                seen.append(second)
                watch(second)
                time.sleep(max(0.0, begun + 1 - time.monotonic()))
        finally:
            if load.poll() is None:
                load.terminate()
                load.wait(STOP_SECONDS)
    if not out.stat().st_size:
        raise CannotRun(f"no load was put on the service: {_last_line(folder / 'load.log')}")
    return _together(seen, timeline), json.loads(out.read_text(encoding="utf-8"))


def _together(seen: Sequence[Second], timeline: Path) -> list[Second]:
    """Each second of the load with the replicas that were there then; and those looked at after it.

    Under load the service's metrics come late: what was seen last counts.
    """
    lines = [json.loads(line) for line in timeline.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise CannotRun("the load ended before its first second")
    began = lines[0]["at"] - lines[0]["seconds"]
    found = []
    for line in lines:
        last = max((one for one in seen if one.at <= line["at"]), key=_when, default=seen[0])
        found.append(Second(line["seconds"], last.replicas, last.gauges, line))
    after = [one for one in seen if one.at > lines[-1]["at"]]
    return found + [Second(one.at - began, one.replicas, one.gauges, None) for one in after]


def _last_line(log: Path) -> str:
    """What a command said last, which is why it ended; the log may not outlive this run."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it does not say why")


def _when(second: Second) -> float:
    return second.at


def _replicas(process: psutil.Popen) -> dict[str, int]:
    counts = dict.fromkeys(STAGES, 0)
    for child in process.children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.Error:
            continue
        for stage in STAGES:
            counts[stage] += f"ServeReplica:sentinel:{stage}" in title
    return counts


def _gauges(page: str) -> dict[str, float]:
    """What the policy goes by, and the targets it set, by deployment; nothing of Serve's own."""
    found = {}
    for line in page.splitlines():
        name, _, rest = line.partition("{")
        short = name.removeprefix("ray_sentinel_scaling_")
        if short == name:
            continue
        value = float(line.rsplit(" ", 1)[1])
        if short in GAUGES:
            found[short] = value
        elif short == "target":
            found[rest.split('deployment="', 1)[1].split('"', 1)[0]] = value
    return found


def _exporter(process: psutil.Popen) -> str:
    """URL of Ray's own exporter. The service's ``/metrics`` would be work for a router, each second
    as much as many requests, and so change what is looked at."""
    for child in process.children(recursive=True):
        try:
            title, listening = " ".join(child.cmdline()), child.net_connections("tcp")
        except psutil.Error:
            continue
        for one in listening if "DashboardAgent" in title else ():
            url = f"http://127.0.0.1:{one.laddr.port}"
            if one.status == psutil.CONN_LISTEN and "ray_serve_" in _page(url, "/metrics"):
                return url
    raise CannotRun("Ray shows its metrics nowhere")


def _lines(process: psutil.Popen) -> list[str]:
    """What the policy wrote, read from the log file that Serve's controller has open."""
    for child in process.children(recursive=True):
        try:
            title, files = " ".join(child.cmdline()), child.open_files()
        except psutil.Error:
            continue
        logs = [Path(file.path) for file in files if Path(file.path).name.startswith("controller_")]
        if "ServeController" in title and logs:
            text = "\n".join(log.read_text(encoding="utf-8") for log in logs)
            return [line for line in text.splitlines() if " scale: " in line]
    return []


def _page(url: str, path: str) -> str:
    """What stands there; nothing where nobody answers, or nobody who speaks HTTP."""
    try:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return str(answer.read().decode())
    except (HTTPException, OSError):
        return ""


def _sentinel() -> list[str]:
    return [str(Path(sys.executable).parent / "sentinel")]


def _environment() -> dict[str, str]:
    """This one, less what would join or configure a Ray that others have started here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "RAY_ADDRESS": "local"}
