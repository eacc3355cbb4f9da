"""A Serve application as a process of its own, and what offline scoring says of the same rows."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from sentinel.answers import answers
from sentinel.bundle import open_bundle
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline

START_SECONDS = 150.0
"""An idle machine needs 15; this one may be busy."""
STOP_SECONDS = 60.0

Row = Mapping[str, Any]


@dataclass
class Served:
    """An application that answers at ``url``; ``bundle`` is what it serves."""

    bundle: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    client: httpx.Client

    def predict(self, row: Row) -> dict[str, Any]:
        answer = self.client.post("/predict", json=dict(row))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def predict_batch(self, rows: Sequence[Any]) -> dict[str, Any]:
        answer = self.client.post("/predict/batch", json=list(rows))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def replicas(self, deployment: str, application: str = "sentinel") -> list[int]:
        """The process ids of the deployment's replicas."""
        family = self.family()
        return [
            pid
            for pid, _, command in _processes()
            if f"ServeReplica:{application}:{deployment}" in command and pid in family
        ]

    def wait_for_replicas(self, deployment: str, count: int) -> list[int]:
        """Their process ids once there are so many and both lanes answer again."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = self.replicas(deployment)
            if len(found) == count and self.client.get("/ready").status_code == 200:
                return found
            time.sleep(0.5)
        raise AssertionError(f"{deployment} has {len(found)} replicas, expected {count}")

    def family(self) -> set[int]:
        """The process and everything that it, or what it started, has started."""
        parents = {pid: parent for pid, parent, _ in _processes()}
        family = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        return family

    def stop(self, number: signal.Signals | None) -> set[int]:
        """Sends the signal, if any, waits for the end; returns what of the family still runs."""
        family = self.family()
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        deadline = time.monotonic() + 10
        while left := {pid for pid, _, _ in _processes() if pid in family}:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return left


@contextmanager
def sentinel_serve(
    bundle: str, folder: Path, *arguments: str, key: str | None = None, deaf: bool = False
) -> Iterator[Served]:
    """``sentinel serve`` on a free port, ready to answer.

    ``key`` is what the client sends; ``deaf``: started as a shell starts what it puts into the
    background, with SIGINT ignored.
    """
    port = free_port()
    command = [script("sentinel"), "serve", "--port", str(port), *arguments]
    with _running(command, bundle, port, folder, key, deaf) as served:
        yield served


@contextmanager
def serve_run(config: Path, bundle: str, port: int) -> Iterator[Served]:
    """Ray's own ``serve run``, ready to answer; run in the folder of the config."""
    command = [script("serve"), "run", str(config)]
    with _running(command, bundle, port, config.parent, None, False) as served:
        yield served


@contextmanager
def _running(
    command: list[str], bundle: str, port: int, folder: Path, key: str | None, deaf: bool
) -> Iterator[Served]:
    log = folder / "log"
    url = f"http://127.0.0.1:{port}"
    if deaf:
        command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with (
        log.open("wb") as output,
        httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as client,
    ):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        served = Served(bundle, url, process, log, client)
        try:
            _wait_until_ready(served)
            yield served
        finally:
            if process.poll() is None:
                served.stop(signal.SIGINT)


def environment() -> dict[str, str]:
    """This one, less what would join or configure a Ray that others have started here."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
    return {**kept, "RAY_ADDRESS": "local"}


def _wait_until_ready(served: Served) -> None:
    deadline = time.monotonic() + START_SECONDS
    while served.process.poll() is None and time.monotonic() < deadline:
        try:
            if served.client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready: {served.log.read_text()}")


def _processes() -> list[tuple[int, int, str]]:
    """Process id, parent's id and command line of all that runs; the dead that nobody has asked
    for are left out."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = (line.split(None, 3) for line in listed.stdout.splitlines())
    return [
        (int(row[0]), int(row[1]), row[3])
        for row in rows
        if len(row) == 4 and not row[2].startswith("Z")
    ]


class Stage:
    """At most one service runs at a time: two Ray clusters take each other's ports."""

    def __init__(self) -> None:
        self._name = ""
        self._running = ExitStack()

    def get(self, name: str, start: Callable[[], AbstractContextManager[Served]]) -> Served:
        """The service of this name, started if another one runs, which is stopped then."""
        if name != self._name:
            self.clear()
            self._served = self._running.enter_context(start())
            self._name = name
        return self._served

    def clear(self) -> None:
        """Stops what runs."""
        self._name = ""
        self._running.close()


def script(name: str) -> str:
    """A command of the environment that the tests run in."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def offline(bundle: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The answers to these rows by the models in this process."""
    opened = open_bundle(bundle)
    judge = opened.judge()
    parsed = JsonParser(judge.description).many(msgspec.json.encode(rows))
    decisions = score_offline(judge, opened.lanes(), parsed.all_or_raise())
    return msgspec.to_builtins(answers(decisions))


def assert_same_answer(
    answer: Row, expected: Row, tolerance: float, *, hurried: bool = False
) -> None:
    """Equal in all but floats, and in those to ``tolerance``.

    Reasons print a probability with three digits, which can differ where the floats do. A batch
    that was ``hurried`` to its deadline may be without those that name features.
    """
    for name, value in expected.items():
        if isinstance(value, float):
            assert abs(answer[name] - value) <= tolerance, name
        elif name == "reasons":
            least = min(1, len(value)) if hurried else len(value)
            assert least <= len(answer[name]) <= len(value)
        else:
            assert answer[name] == value, name
    assert answer.keys() == expected.keys()
