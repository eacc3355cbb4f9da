"""The processes that one ``sentinel serve`` has started, found by a mark in their environment.

Ray's processes start others, outlive one another in no fixed order, and are handed to init when
their parent dies; HAProxy would keep the port. A mark that every descendant inherits finds them
whatever has become of their parents, and finds nobody else's.
"""

import os
import secrets
import time
from collections.abc import Iterator

import psutil

MARK = "SENTINEL_SERVE_MARK"
"""The environment variable that holds the mark."""

EXIT_SECONDS = 5.0
"""Longest wait for processes to end by themselves, and again once they were told to."""


def mark_descendants() -> str:
    """Marks what this process starts from now on, and returns the mark."""
    os.environ[MARK] = secrets.token_hex(8)
    return os.environ[MARK]


def marked(mark: str) -> Iterator[psutil.Process]:
    """The processes with this mark, but for this one; those of other users cannot be seen."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:  # it has ended, or is another user's
            continue


def end_marked(mark: str) -> None:
    """Waits for the processes with this mark to end, and ends those that do not."""
    for end in (None, psutil.Process.terminate, psutil.Process.kill):
        deadline = time.monotonic() + EXIT_SECONDS
        for process in list(marked(mark)):
            if end is not None:
                try:
                    end(process)
                except psutil.Error:
                    continue
        while list(marked(mark)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return
