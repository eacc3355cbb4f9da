"""The profiles behind a Serve handle: ``sentinel.profile_store.ProfileStore`` for one machine."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context

from ray.serve.handle import DeploymentHandle

from deployments.guarded import DOWN, Guarded, states_of
from deployments.profile_server import Missed, ProfileServer, ProfileState, Settled
from sentinel.errors import Overloaded
from sentinel.profile_store import Arrivals, Label, Reception, without_profiles
from sentinel.scoring import Judge, StoredAnswer

logger = logging.getLogger("ray.serve")  # the one Serve writes to each replica's log file

MOST_MISSED = 20_000
"""Most transactions kept for profiles that cannot be reached: half a minute at 600 a second."""

NOTED_BATCHES, NOTED_ROWS = 32, 1_000
"""Most batches of those, and most transactions in them (but one batch however large), in one call
that brings them back: each costs them up to a millisecond and each row some 15 microseconds."""

MOST_SETTLED = 256
"""Most batches whose answers are kept for them."""

SETTLE_SECONDS = 0.005
"""Longest wait of answers for a batch to go with."""

LABEL_SECONDS = 10.0
"""Longest wait for labels: nobody waits at a till for them."""


class HandleProfiles:
    """Asks the deployment ``Profiles``, one call a batch: the answers to the last batch go with the
    next one, or by themselves where none follows.

    What they missed while they were out is brought to them before they are asked again.
    """

    def __init__(
        self,
        handle: DeploymentHandle[ProfileServer],
        deadline: float,
        on_time: Callable[[str, float], object] | None = None,
    ) -> None:
        """``deadline``: seconds a batch waits; ``on_time`` is told how long it did."""
        self._handle = handle
        self._ask, self._tell = handle.receive, handle.settle
        self._guard = Guarded("profiles", deadline, on_time)
        self._settled: list[Settled] = []
        self._missed: deque[Missed] = deque()
        self._missed_rows = 0
        self._noted_batches = NOTED_BATCHES
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def out(self) -> str:
        """Why answers are made without profiles; empty while they are not."""
        return self._guard.out

    async def receive(self, judge: Judge, arrivals: Arrivals, holder: int) -> Reception:
        """See ``ProfileStore``."""
        settled = self._take()

        async def receive() -> Reception:
            if self._missed:
                await self._catch_up()
            found: Reception = await self._ask.remote(judge.digest, arrivals, holder, settled)
            return found

        reception = await self._guard.ask(receive, self._catch_up)
        if reception is not None:
            return reception
        self._settled = [*settled, *self._settled][-MOST_SETTLED:]
        self._miss(Missed(judge.digest, arrivals, holder))
        plan = judge.features.plan
        assert plan is not None
        return without_profiles(plan, arrivals, self.out or "they are not those of this bundle")

    def _miss(self, missed: Missed) -> None:
        """Keeps what the profiles did not note, for when they are back; the oldest go first."""
        self._missed.append(missed)
        self._missed_rows += len(missed.arrivals)
        while self._missed_rows > MOST_MISSED:
            self._missed_rows -= len(self._missed.popleft().arrivals)

    async def _catch_up(self) -> None:
        """Brings them what they missed, or just asks whether they are there.

        Ended half way, it goes on where it was; a call that was ended brings half as much the next
        time, so that it comes to an end however slow they are.
        """
        while self._missed:
            some: list[Missed] = []
            rows = 0
            while (
                self._missed
                and len(some) < self._noted_batches
                and (not some or rows + len(self._missed[0].arrivals) <= NOTED_ROWS)
            ):
                some.append(self._missed.popleft())
                rows += len(some[-1].arrivals)
            self._missed_rows -= rows
            try:
                await self._handle.note.remote(some)
            except BaseException:
                self._missed.extendleft(reversed(some))
                self._missed_rows += rows
                self._noted_batches = max(1, len(some) // 2)
                raise
            self._noted_batches = NOTED_BATCHES
        await self._handle.state.remote()

    async def settle(
        self, arrivals: Arrivals, answers: Sequence[StoredAnswer | None], holder: int
    ) -> bool:
        """See ``ProfileStore``. The events are noted already, so nobody waits for this: a twin
        that comes before it waits a moment, and gets the answer."""
        if self.out:
            return True
        self._settled.append(Settled(arrivals.identities, list(answers), holder))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SETTLE_SECONDS, self._send, context=Context())
        return True

    def _take(self) -> list[Settled]:
        """What is to be settled, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        settled, self._settled = self._settled, []
        return settled

    def _send(self) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(self._take()))
        self._sending.add(task)  # the event loop alone would not keep it
        task.add_done_callback(self._sending.discard)

    async def _settle(self, settled: list[Settled]) -> None:
        try:
            await self._tell.remote(settled)
        except DOWN as error:
            logger.warning("answers are not kept for who asks again: %s", error)

    async def label(self, labels: Sequence[Label]) -> list[str]:
        """See ``ProfileStore``."""
        try:
            async with asyncio.timeout(LABEL_SECONDS):
                outcomes: list[str] = await self._handle.label.remote(labels)
        except (TimeoutError, *DOWN) as error:
            raise Overloaded("profiles", "the profiles cannot be reached now") from error
        return outcomes

    async def states(self, patience: float) -> list[ProfileState]:
        """What the replica says of itself; nothing if it does not answer in time."""
        return await states_of(self._handle, ProfileState, patience)
