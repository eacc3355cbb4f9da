"""The servers that are measured side by side, each a process of its own on a port of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.limit_app import BUNDLE
from sentinel.errors import SentinelError

START_SECONDS = 180.0
STOP_SECONDS = 90.0

NOT_MEASURED = "not measured by this release"
NAMES = (
    "limit",
    "sentinel",
    "sentinel-together",
    "sentinel-profiles",
    "sentinel-profiles-redis",
    "litserve",
    "mlserver",
    "reference",
    "kafka",
    "quixstreams",
)
"""Every contender that ``sentinel bench`` reports on, measured or not."""


class ContenderFailed(SentinelError):
    """A contender did not start; says which, and where its output is."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How to start one: ``{port}`` in the command is replaced; ``ready`` is the path that answers
    once it is up."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: str


@dataclass(frozen=True, slots=True)
class Started:
    """One that runs: its URL, and the process id of what was started."""

    url: str
    pid: int


def contenders(bundle: str) -> list[Contender]:
    """The bare limit and the service, serving this bundle."""
    uvicorn = [sys.executable, "-m", "uvicorn", "loadtest.limit_app:app", "--factory"]
    uvicorn += ["--workers", "2", "--port", "{port}", "--no-access-log", "--log-level", "warning"]
    return [
        Contender("limit", uvicorn, {BUNDLE: bundle, "OMP_NUM_THREADS": "1"}, "/"),
        service("sentinel", bundle),
    ]


def service(name: str, bundle: str, *options: str) -> Contender:
    """``sentinel serve``, as anyone starts it."""
    command = [str(Path(sys.executable).parent / "sentinel"), "serve", "--bundle", bundle]
    return Contender(name, [*command, "--port", "{port}", *options], {}, "/ready")


@contextmanager
def running(contender: Contender, folder: Path) -> Iterator[Started]:
    """Starts it and yields where it is; stops it at the end.

    :raises ContenderFailed: it does not come up.
    """
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / f"{contender.name}.log"
    command = [part.format(port=port) for part in contender.command]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment, **contender.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(contender, process, url, log)
            yield Started(url, process.pid)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Has a process end itself, and ends it if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait(contender: Contender, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + contender.ready, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code == 404 and contender.ready == "/":  # it answers, though not this
                return
        except OSError:
            pass
        time.sleep(0.2)
    said = log.read_text().strip().splitlines()[-1:] or ["nothing"]
    raise ContenderFailed(f"{contender.name} did not come up; it said: {said[0]}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
