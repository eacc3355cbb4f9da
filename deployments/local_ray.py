"""A Ray of one's own on this machine, for as long as one command runs.

It is reachable from this machine alone, and by its user alone: see ``ray_environment``.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import ray

from deployments.own_processes import end_marked, mark_descendants, marked
from deployments.rays_here import rays_here
from sentinel.console import note
from sentinel.errors import SentinelError

LEAVE_SECONDS = 5.0
"""Longest wait for another Ray to go: that of a command that was killed takes a second or two."""


class CannotStartRay(SentinelError):
    """There can be no Ray of our own here; one line says why."""


class LocalRay:
    """Ray on loopback and free ports, once it is started and until it is stopped.

    What depends on the environment must be in it before this module is imported.
    """

    def __init__(
        self,
        *,
        namespace: str | None,
        object_store_bytes: int,
    ) -> None:
        self._namespace = namespace
        self._object_store_bytes = object_store_bytes
        # Ray's processes are told to end with the thread that started them.
        self._thread = ThreadPoolExecutor(1, "ray")
        self._mark = ""
        self.started = False
        self.loop: asyncio.AbstractEventLoop
        """Runs in Ray's thread, once Ray is started."""

    def start(self, take_signals: Callable[[], None]) -> str:
        """Starts Ray and returns the folder of its session.

        In a thread of its own: in the main thread Ray would take SIGTERM for itself. Its C++ part
        still does, once, and would abort this process, so ``take_signals`` is called again and
        again until Ray has started. What that raises ends the start.

        :raises CannotStartRay: another Ray runs here, or ours does not start.
        """
        _check_that_none_runs()
        self._mark = mark_descendants()
        starting = self._thread.submit(self._init)
        try:
            while not starting.done():
                take_signals()
                time.sleep(0.02)
            take_signals()
        finally:
            # Also if a signal raised: what has been started must be known, to be stopped.
            session = starting.result()
            self.started = True
            self.loop = asyncio.new_event_loop()
            self._thread.submit(self.loop.run_forever)
        return session

    def is_alive(self) -> bool:
        """Whether Ray's two main processes run."""
        return {process.name() for process in marked(self._mark)} >= {"gcs_server", "raylet"}

    def check_not_ended(self) -> None:
        """Ends this process, with exit code 1, if somebody ended Ray from outside (by a signal to
        the whole process group): Ray's library would look for it for a minute and then abort."""
        if self.started and not self.is_alive():
            end_marked(self._mark)
            note("Ray was ended from outside; what it left has been ended too")
            os._exit(1)

    def stop(self) -> None:
        """Ends everything that was started. No other thread may call Ray any more: its library
        would end this process at once."""
        family: list[psutil.Process] = []
        if self.started:
            self.check_not_ended()
            # Ray's agents rename themselves, and lose their mark by it.
            family = psutil.Process().children(recursive=True)
            self.loop.call_soon_threadsafe(self.loop.stop)
            ray.shutdown(wait_for_processes=True)
        if self._mark:
            end_marked(self._mark, family)
        self._thread.shutdown()

    def _init(self) -> str:
        try:
            context: Any = ray.init(
                address="local",
                namespace=self._namespace,
                include_dashboard=False,
                object_store_memory=self._object_store_bytes,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise CannotStartRay(f"Ray does not start: {' '.join(str(error).split())}") from error
        return context.address_info["session_dir"]


def _check_that_none_runs() -> None:
    deadline = time.monotonic() + LEAVE_SECONDS
    while others := rays_here():
        if time.monotonic() > deadline:
            raise CannotStartRay(
                f"another Ray cluster runs on this machine ({', '.join(sorted(others))}), and two "
                "would take each other's ports; expected none: stop it first"
            )
        time.sleep(0.2)
