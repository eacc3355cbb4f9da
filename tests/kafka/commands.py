"""The command line as a person runs it, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from tests.kafka.brokers import Brokers


def sentinel(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs ``sentinel`` to its end."""
    done = subprocess.run(_command(arguments), check=False, capture_output=True, text=True)
    assert (done.returncode == 0) is ok, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    return done


def result_of(*arguments: str) -> dict[str, Any]:
    """What it prints with ``--json``."""
    found: dict[str, Any] = json.loads(sentinel(*arguments, "--json").stdout)
    return found


class Started:
    """A ``sentinel`` that runs meanwhile; the block's end kills it if it still does."""

    def __init__(self, *arguments: str) -> None:
        # Into files: nobody reads a pipe meanwhile, and a full one would hold the command up.
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115  # see exit
        out, err = self._files
        self._process = subprocess.Popen(_command(arguments), stdout=out, stderr=err, text=True)

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.tell(signal.SIGKILL)
        self._process.wait()
        for file in self._files:
            file.close()

    def tell(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def ended(self, timeout: float = 240) -> tuple[int, str]:
        """Its exit code and all that it said."""
        code = self._process.wait(timeout)
        for file in self._files:
            file.seek(0)
        return code, "".join(file.read() for file in self._files)


def wait_until(true: Callable[[], bool], what: str, timeout: float = 240) -> None:
    """Waits for something that takes as long as this machine takes."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.05)


def count(kafka: Brokers, topic: str) -> int:
    """How many records lie in a topic, or places that transactions take there."""
    return sum(kafka.ends(topic).values()) if kafka.partitions(topic) else 0


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-c", "from sentinel.cli import main; main()", *arguments]
