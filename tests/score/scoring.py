"""``sentinel score`` as a process, and what one go in this process says of the same rows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from deployments.own_processes import MARK
from sentinel.answers import columns
from sentinel.bundle import open_bundle
from sentinel.history import history_of
from sentinel.scoring import score_offline
from sentinel.transactions import Transactions

SENTINEL = Path(sys.executable).with_name("sentinel")
RUN_SECONDS = 150.0


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    code: int
    said: str
    result: dict[str, Any] | None
    out: Path

    def answers(self) -> pa.Table:
        """All parts, as whoever reads the folder has them."""
        return pq.read_table(self.out)

    def contents(self) -> dict[str, bytes]:
        """Every file of the folder but the record of the run."""
        names = sorted(name for name in os.listdir(self.out) if name != "_progress.json")
        return {name: (self.out / name).read_bytes() for name in names}


def command(bundle: str, data: Sequence[object], out: Path, *more: object) -> list[str]:
    arguments = ["--bundle", bundle, "--data", *data, "--out", out, "--json", *more]
    return [str(SENTINEL), "score", *map(str, arguments)]


def run_score(bundle: str, data: Sequence[object], out: Path, *more: object) -> Finished:
    """Runs it to its end."""
    done = subprocess.run(
        command(bundle, data, out, *more),
        capture_output=True, text=True, check=False, timeout=RUN_SECONDS, env=environment(),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    result = json.loads(done.stdout) if done.stdout else None
    return Finished(done.returncode, done.stderr, result, out)


def end_midway(
    number: signal.Signals, when: Callable[[], bool], command: list[str]
) -> tuple[int, str, list[psutil.Process]]:
    """Sends the signal to the command once it has come so far; its exit code, what it said, and
    what it had started."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + RUN_SECONDS
    while not when():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, children


def alive(processes: list[psutil.Process]) -> list[str]:
    """Those that run, a moment later; one that ended and whom nobody asked does not."""
    _, left = psutil.wait_procs(processes, timeout=5)
    return [p.name() for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != MARK}
    return {**inherited, "COLUMNS": "200", "NO_COLOR": "1"}


def expected_answers(bundle: str, rows: Transactions) -> pa.Table:
    """The answers to these rows, judged in time order and in one go, in their own order."""
    opened = open_bundle(bundle)
    history = history_of(opened)
    if history is None:
        return pa.table(columns(score_offline(opened.judge(), opened.lanes(), rows)))
    assert rows.times is not None
    order = np.argsort(rows.times, kind="stable")
    by_time = rows.take(order)
    decisions = score_offline(opened.judge(), opened.lanes(), by_time, history.note(by_time))
    return pa.table(columns(decisions)).take(pa.array(np.argsort(order, kind="stable")))


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """The same answers; figures to the seventh digit, since single rows take another runtime."""
    for name in expected.column_names:
        mine, theirs = found.column(name), expected.column(name)
        if pa.types.is_floating(theirs.type):
            np.testing.assert_allclose(mine.to_numpy(), theirs.to_numpy(), rtol=0, atol=2e-7)
        elif name != "reasons":
            assert mine.to_pylist() == theirs.to_pylist(), name
    assert found.column("reasons").to_pylist() == expected.column("reasons").to_pylist()
