"""What is measured is started here, waited for, and ended with all that it leaves behind."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from sentinel.errors import SentinelError

if TYPE_CHECKING:
    from loadtest.contenders import Contender

START_SECONDS = 180.0
STOP_SECONDS = 90.0
FAMILY_SECONDS = 2.0
"""What those that a contender started may take to end after it."""


class ContenderFailed(SentinelError):
    """A contender did not start; says which, and what it said last."""


@dataclass(frozen=True, slots=True)
class Started:
    """One that runs: its URL, and the process id of what was started."""

    url: str
    pid: int

    def family(self) -> list[psutil.Process]:
        """It, and all that it started."""
        return [psutil.Process(self.pid), *_started_by(self.pid)]

    def processor_seconds(self) -> float:
        """Processor time that it and all that it started have used so far."""
        total = 0.0
        for process in self.family():
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@contextmanager
def running(contender: "Contender", folder: Path) -> Iterator[Started]:
    """Starts it and yields where it is; stops it at the end. Its output is in ``folder``.

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
            cwd=contender.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the bench, which ends each in its turn
        )
        try:
            _wait(contender, process, url, log)
            yield Started(url, process.pid)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Has a process end itself, and ends it if it does not, with all that it leaves behind: some
    servers end without their workers, which go on asking an empty queue for work."""
    family = _started_by(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, FAMILY_SECONDS)
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()  # psutil does not take another process with the same id for it


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started_by(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _wait(contender: "Contender", process: subprocess.Popen[bytes], url: str, log: Path) -> None:
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
    raise ContenderFailed(f"{contender.name} did not come up; it said: {_last_line(log)}")


def _last_line(log: Path) -> str:
    """What a log ends with, without the folder it lies in, which is another each time."""
    lines = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    return lines[0].replace(f"{log.parent}/", "")
