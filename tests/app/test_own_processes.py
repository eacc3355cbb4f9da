"""What carries our mark is found and ended, whatever has become of its parents."""

import os
import subprocess
import time

import psutil
import pytest

from deployments import own_processes
from deployments.own_processes import end_marked, mark_descendants, marked


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(own_processes, "EXIT_SECONDS", 0.5)
    monkeypatch.setenv(own_processes.MARK, "")
    return mark_descendants()


def orphan(script: str) -> int:
    """The process id of a shell that runs this after its parent has ended."""
    start = f"({script}) >/dev/null 2>&1 & echo $!"
    return int(subprocess.run(["sh", "-c", start], capture_output=True, check=True).stdout)


def test_orphans_are_found_and_others_are_not(mark: str) -> None:
    ours = orphan("sleep 30")
    other = subprocess.Popen(["sleep", "30"], env={**os.environ, own_processes.MARK: "another"})
    try:
        found = {process.pid for process in marked(mark)}
        assert ours in found
        assert not found & {other.pid, os.getpid()}
        end_marked(mark)
        assert not list(marked(mark))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_what_does_not_listen_is_ended_all_the_same(mark: str) -> None:
    deaf = orphan("trap '' TERM; while :; do sleep 0.1; done")
    time.sleep(0.2)
    end_marked(mark)
    assert not psutil.pid_exists(deaf) or psutil.Process(deaf).status() == psutil.STATUS_ZOMBIE


def test_where_nothing_is_left_nothing_is_waited_for(mark: str) -> None:
    start = time.monotonic()
    end_marked(mark)
    assert time.monotonic() - start < 0.4
