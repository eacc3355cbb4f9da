"""A Ray to compute on: one that is joined, or one of our own for as long as it is needed."""

import gc
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from deployments.local_ray import CannotStartRay, LocalRay
from sentinel.errors import SentinelError

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray's shared memory, and as much again for each processor: a batch of 131,072 rows with their
features has some 40 MB, and a few of them are under way at once. What is more goes to disk."""

THREAD_SECONDS = 2.0
"""Longest wait for threads of Ray Data to end. They look every tenth of a second whether to; one
that is never told waits for nothing but that."""


class RayFailed(SentinelError):
    """Ray, or something on it, did not do its work; one line says what."""


@contextmanager
def ray_session(address: str | None, take_signals: Callable[[], None]) -> Iterator[None]:
    """Ray, joined at ``address`` or started, while the block runs.

    ``take_signals`` is called again and again until it has started.

    :raises CannotStartRay: it cannot be had.
    :raises RayFailed: something failed on it; what was refused on purpose is raised as it was.
    """
    if address is not None:
        with _joined(address), _explained():
            yield
        return
    size = OBJECT_STORE_BYTES * (1 + (os.cpu_count() or 1))
    own = LocalRay(namespace=None, object_store_bytes=size)
    try:
        own.start(take_signals)
        with _threads_ended(), _explained():
            yield
    finally:
        own.stop()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise CannotStartRay(f"--address {address}: cannot be joined: {text}") from error
    try:
        with _threads_ended():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _threads_ended() -> Iterator[None]:
    """Waits for threads that were started within: those of Ray Data call Ray, which, once it is
    shut down, ends the whole process for that."""
    before = set(threading.enumerate())
    try:
        yield
    except BaseException as error:
        # What failed half way holds what the threads wait for.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()
        deadline = time.monotonic() + THREAD_SECONDS
        for thread in set(threading.enumerate()) - before:
            thread.join(max(0.0, deadline - time.monotonic()))


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of tasks as what raised them there."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SentinelError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise cause from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RayFailed(f"Ray: {lines[-1] if lines else type(error).__name__}") from error
