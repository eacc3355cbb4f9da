"""What a router makes of profiles that are out: it goes on, and brings them what they missed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError

from deployments import guarded
from deployments.handle_profiles import NOTED_BATCHES, HandleProfiles
from deployments.profile_server import Missed
from sentinel.bundle import open_bundle
from sentinel.parse_json import JsonParser
from sentinel.profile_store import Arrivals, Reception, arrivals
from sentinel.scoring import Judge

DEADLINE = 0.05


class Method:
    """One method of a fake handle."""

    def __init__(self, remote: Any) -> None:
        self.remote = remote


class Keeper:
    """The deployment, as a handle shows it: noting takes time by the batch, as it truly does."""

    def __init__(self, seconds_a_batch: float) -> None:
        self.up = True
        self.noted: list[int] = []
        self.received: list[int] = []
        self._seconds = seconds_a_batch
        self.receive, self.note = Method(self._receive), Method(self._note)
        self.state, self.settle = Method(self._state), Method(self._state)

    async def _receive(self, _: str, came: Arrivals, holder: int, *__: Any) -> Reception:
        await self._state()
        self.received.append(holder)
        return Reception(np.zeros(len(came), np.int8), np.empty((len(came), 0), np.float32), {})

    async def _note(self, missed: Sequence[Missed]) -> None:
        await self._state()
        await asyncio.sleep(self._seconds * len(missed))
        self.noted += [each.holder for each in missed]

    async def _state(self, *_: Any) -> None:
        if not self.up:
            raise ActorUnavailableError("gone", b"1" * 16)


def _one_arrival(judge: Judge, row: dict[str, Any]) -> Arrivals:
    transactions = JsonParser(judge.description).one(msgspec.json.encode(row))
    return arrivals(judge, transactions, ["http:"])


@pytest.mark.parametrize("calls_a_deadline", [3, 0.3], ids=["as fast as ever", "slow"])
def test_however_much_they_missed_they_are_brought_all_of_it_in_order_and_are_back(
    transactions_bundle: str,
    row: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    calls_a_deadline: float,
) -> None:
    """More than they can take within the deadline of a batch, even if a call alone is too much."""
    monkeypatch.setattr(guarded, "PROBE_PAUSE", 0.001)
    judge = open_bundle(transactions_bundle).judge()
    came = _one_arrival(judge, row)
    missed = 5 * NOTED_BATCHES

    async def scene() -> None:
        keeper = Keeper(seconds_a_batch=DEADLINE / NOTED_BATCHES / calls_a_deadline)
        profiles = HandleProfiles(keeper, DEADLINE)  # type: ignore[arg-type]
        assert not (await profiles.receive(judge, came, 0)).missing
        keeper.up = False
        for holder in range(1, missed + 1):
            assert (await profiles.receive(judge, came, holder)).missing
        keeper.up = True
        async with asyncio.timeout(20):
            while profiles.out:
                await asyncio.sleep(0.001)
        assert not (await profiles.receive(judge, came, missed + 1)).missing
        assert keeper.noted == list(range(1, missed + 1))
        assert keeper.received == [0, missed + 1]

    asyncio.run(scene())
