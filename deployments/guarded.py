"""A deployment behind a handle that must not hold anybody up: asked with a deadline, left out when
it is late, and asked again by itself until it is back.

Until the deadline passes, a call that met a dead replica, or one that does not hold the bundle, is
sent again: Serve's router has learnt by then to choose another. A deployment that had no answer by
the deadline is *out*: its callers go on without it at once instead of each waiting as long again,
and a probe asks it until it answers in time, which ends it. So nothing hangs on it, and it is back
as soon as it can do its work.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from sentinel.deadlines import within
from sentinel.errors import UnknownBundle

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

RETRY_PAUSE = 0.01
"""Seconds before a failed call is sent again."""

UNKNOWN_TRIES = 5
"""Replicas asked that do not hold the bundle before a batch goes on without an answer. The
deployment is not out then: batches of another bundle may find theirs."""

PROBE_PAUSE = 0.1
"""Seconds between the questions put to a deployment that is out."""

DOWN = (RayError, RayServeException, grpc.RpcError, UnknownBundle)
"""What a deployment that cannot answer now raises; another replica, or a later moment, may."""

Answer = TypeVar("Answer")
Call = Callable[[], Awaitable[Answer]]


class Guarded:
    """One deployment; ``out`` says why it is left out, and is empty while it is not."""

    def __init__(
        self,
        name: str,
        deadline: float,
        on_time: Callable[[str, float], object] | None = None,
    ) -> None:
        """``name`` is for people; ``deadline`` in seconds, all retries included. ``on_time`` is
        told how long each call took."""
        self._name = name
        self._deadline = deadline
        self._on_time = on_time
        self._probe: Call[object] | None = None
        self._probing: asyncio.Task[None] | None = None
        self.out = ""

    async def ask(self, call: Call[Answer], probe: Call[object]) -> Answer | None:
        """What ``call`` brings, or ``None``; ``probe`` is asked while it is out.

        An error in the deployment's own code is raised: it is a mistake of ours, and no answer
        should hide it.
        """
        self._probe = probe
        if self.out:
            return None
        start = time.perf_counter()
        try:
            answer = await self._in_time(call)
        except UnknownBundle as error:
            logger.warning("%s has no answer: %s", self._name, _first_line(error))
            return None
        except TimeoutError as error:
            self._put_out(str(error))
            return None
        if self._on_time is not None:
            self._on_time(self._name, time.perf_counter() - start)
        return answer

    async def _in_time(self, call: Call[Answer]) -> Answer:
        """The answer.

        :raises TimeoutError: there was none by the deadline; says why.
        :raises UnknownBundle: it does not hold the bundle.
        """
        met: list[Exception] = []
        try:
            return await within(self._deadline, _until_answered(call, met))
        except TimeoutError as error:
            why = f" ({_first_line(met[-1])})" if met else ""
            raise TimeoutError(f"{error}{why}") from error

    def _put_out(self, why: str) -> None:
        if self.out:
            return
        self.out = why
        logger.warning("%s is out: %s", self._name, why)
        self._probing = asyncio.get_running_loop().create_task(self._until_back())

    async def _until_back(self) -> None:
        start = time.monotonic()
        while not await self._answers_again():
            await asyncio.sleep(PROBE_PAUSE)
        self.out, self._probing = "", None
        logger.warning("%s is back after %.1f s", self._name, time.monotonic() - start)

    async def _answers_again(self) -> bool:
        assert self._probe is not None
        try:
            await self._in_time(self._probe)
        except (TimeoutError, UnknownBundle):
            return False
        except Exception:  # a probe that ended would leave it out for ever
            logger.exception("%s cannot be asked", self._name)
            return False
        return True


async def states_of(
    handle: DeploymentHandle[Any], kind: type[Answer], patience: float
) -> list[Answer]:
    """What every replica says of itself (its method ``state``); one that does not answer in time
    has no entry.

    A call to every replica: for the control of a service, not for its requests.
    """
    try:
        async with asyncio.timeout(patience):
            found = await handle.broadcast("state").results_async(
                timeout_s=patience, return_exceptions=True
            )
    except (TimeoutError, *DOWN):
        return []
    return [state for state in found if isinstance(state, kind)]


async def _until_answered(call: Call[Answer], met: list[Exception]) -> Answer:
    """The first answer to a call that is sent until there is one; ``met`` gets what came instead.

    :raises UnknownBundle: ``UNKNOWN_TRIES`` replicas do not hold the bundle.
    """
    unknown = 0
    while True:
        try:
            return await call()
        except UnknownBundle as error:
            met.append(error)
            unknown += 1
            if unknown == UNKNOWN_TRIES:
                raise
        except DOWN as error:
            if isinstance(error, RayTaskError):  # a mistake in the deployment's code, and so ours
                raise
            met.append(error)
        await asyncio.sleep(RETRY_PAUSE)


def _first_line(error: Exception) -> str:
    """Ray's messages end in pages of traces and advice."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
