"""The processes that one ``sentinel`` command has started, found by a mark in their environment.

Ray's processes start others, outlive one another in no fixed order, and are handed to init when
their parent dies; HAProxy would keep the port. A mark that every descendant inherits finds them
whatever has become of their parents, and finds nobody else's.
"""

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

MARK = "SENTINEL_SERVE_MARK"
"""The environment variable that holds the mark."""

EXIT_SECONDS = 5.0
"""Longest wait for processes to end by themselves, and again once they were told to."""


_PROC = Path("/proc")


def mark_descendants() -> str:
    """Marks what this process starts from now on, and returns the mark."""
    os.environ[MARK] = secrets.token_hex(8)
    return os.environ[MARK]


def marked(mark: str) -> Iterator[psutil.Process]:
    """The processes with this mark, but for this one; those of other users cannot be seen."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _has(process, mark):
                yield process
        except (psutil.Error, OSError):  # it has ended, or is another user's
            continue


def _has(process: psutil.Process, mark: str) -> bool:
    if not _PROC.is_dir():
        return process.environ().get(MARK) == mark
    # A process that gave itself a name, as Ray's do, has a gap in its environment; psutil would
    # not look behind it.
    environment = (_PROC / str(process.pid) / "environ").read_bytes()
    return f"{MARK}={mark}".encode() in environment.split(b"\0")


def end_marked(mark: str, known: Sequence[psutil.Process] = ()) -> None:
    """Waits for the processes with this mark, and for those that are ``known``, to end, and ends
    those that do not."""
    for end in (None, psutil.Process.terminate, psutil.Process.kill):
        deadline = time.monotonic() + EXIT_SECONDS
        for process in _running(mark, known):
            if end is not None:
                try:
                    end(process)
                except psutil.Error:
                    continue
        while _running(mark, known):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return


def _running(mark: str, known: Sequence[psutil.Process]) -> set[psutil.Process]:
    return {*marked(mark), *filter(_runs, known)}


def _runs(process: psutil.Process) -> bool:
    """Whether it does something still; one that nobody asked how it ended does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
