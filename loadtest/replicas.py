"""What the service's own processes take: memory, and time to come back after a kill.

They are found among the processes that ``sentinel serve`` started: Ray names a replica's process
after its deployment.
"""

import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from loadtest.goals import Table
from loadtest.processes import Started

_TITLE = re.compile(r"ray::.*ServeReplica:\w+:(\w+)")
_STARTED = r"Replica\(.*started successfully.* after ([0-9.]+)s \(PID: {pid}\)"
"""What Serve's controller writes when a replica is ready."""

ROUTER, LANE = "FraudRouter", "XGBoost"
RESTART_SECONDS = 60.0
MIB = 2**20


class Memory(msgspec.Struct, frozen=True):
    """A replica's memory in MB: resident, and proportional (pages that processes share are counted
    in parts, so that these add up)."""

    deployment: str
    rss_mb: float
    pss_mb: float


class Restart(msgspec.Struct, frozen=True):
    """A lane's only replica was killed on a warm node. Seconds from the kill until both models
    answered again, and those that Serve says the new one took from its start to being ready; null
    where Serve does not say."""

    deployment: str
    killed_to_ready_s: float
    start_to_ready_s: float | None


class Core(msgspec.Struct, frozen=True):
    """One transaction a request at 64 connections, the service kept to so many cores."""

    cores: int
    load_generator: str
    """Where the load generator ran."""
    requests_per_s: float
    requests_per_s_a_core: float


def replicas(started: Started) -> Iterator[tuple[str, psutil.Process]]:
    """The deployment and the process of each of the service's replicas."""
    for process in started.family():
        with suppress(psutil.Error):
            title = _TITLE.match(" ".join(process.cmdline()))
            if title is not None:
                yield title[1], process


def memory(started: Started) -> list[Memory]:
    """Of each replica, and of all other processes of the service together (Ray, Serve, HAProxy),
    called ``others``."""
    found = [(name, *_sizes(process)) for name, process in replicas(started)]
    own = {process.pid for _, process in replicas(started)}
    rest = [_sizes(each) for each in started.family() if each.pid not in own]
    found.append(("others", sum(rss for rss, _ in rest), sum(pss for _, pss in rest)))
    return [Memory(name, round(rss / MIB, 1), round(pss / MIB, 1)) for name, rss, pss in found]


def resident(started: Started, deployment: str) -> float:
    """MB that the replicas of a deployment hold."""
    sizes = [_sizes(each)[0] for name, each in replicas(started) if name == deployment]
    return round(sum(sizes) / MIB, 1)


def restart(started: Started, deployment: str = LANE) -> Restart | None:
    """Kills the replicas of a deployment and waits until ``/ready`` says that it is back; ``None``
    where it is not within a minute, or was not there."""
    killed = {process.pid: process for name, process in replicas(started) if name == deployment}
    for process in killed.values():
        process.kill()
    begun = time.monotonic()
    while killed and time.monotonic() - begun < RESTART_SECONDS:
        # Until Serve notices, it still counts the dead one: what counts is a new one that is ready.
        new = [p.pid for n, p in replicas(started) if n == deployment and p.pid not in killed]
        if new and _ready(started.url):
            passed = time.monotonic() - begun
            said = seconds_to_ready(_controller_log(started), new[0])
            return Restart(deployment, round(passed, 2), said)
        time.sleep(0.05)
    return None


def seconds_to_ready(log: str, pid: int) -> float | None:
    """From a replica's start until it was ready, by the log of Serve's controller."""
    said = re.search(_STARTED.format(pid=pid), log)
    return None if said is None else float(said[1])


def extrapolated(cores: list[Core], wanted: float = 10_000) -> dict[str, float]:
    """Cores that so many requests a second would take, if cores added up: for each measurement."""
    return {
        f"by {core.cores} measured": round(wanted / core.requests_per_s_a_core, 1) for core in cores
    }


def memory_table(found: list[Memory]) -> Table:
    """A row a process."""
    columns = ["replica", "RSS, MB", "PSS, MB"]
    return columns, [[m.deployment, f"{m.rss_mb:.0f}", f"{m.pss_mb:.0f}"] for m in found]


def core_table(cores: list[Core], extrapolation: Mapping[str, float]) -> Table:
    """A row a number of cores, with what follows from it for 10,000 requests a second."""
    columns = ["cores", "load generator", "requests/s", "requests/s a core"]
    columns += ["cores for 10,000 requests/s (extrapolation)"]
    return columns, [
        [
            str(core.cores),
            core.load_generator,
            f"{core.requests_per_s:,.0f}",
            f"{core.requests_per_s_a_core:,.0f}",
            f"{extrapolation[f'by {core.cores} measured']:,.1f}",
        ]
        for core in cores
    ]


def _sizes(process: psutil.Process) -> tuple[float, float]:
    try:
        sizes = process.memory_full_info()
    except psutil.Error:
        return 0, 0
    return sizes.rss, getattr(sizes, "pss", sizes.rss)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _controller_log(started: Started) -> str:
    """What Serve's controller wrote; the folder of logs is an argument of Ray's processes."""
    for process in started.family():
        with suppress(psutil.Error):
            said = re.search(r"--log_dir=(\S+)", " ".join(process.cmdline()))
            if said is not None:
                logs = sorted(Path(said[1], "serve").glob("controller_[0-9]*.log"))
                return "".join(log.read_text(errors="replace") for log in logs)
    return ""
