"""Transactions, and stores that take them: what the tests of profiles on Redis talk about."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from sentinel.dataset import load_description
from sentinel.features import feature_set
from sentinel.profile_store import Arrivals, MemoryStore, Reception, arrivals
from sentinel.records import Records
from sentinel.redis_settings import RedisSettings
from sentinel.redis_store import RedisStore
from sentinel.scoring import Judge, StoredAnswer
from sentinel.transactions import Transactions

NAME = "transactions"
NOW = 1_600_000_000_000_000
HOUR, DAY = 3_600_000_000, 86_400_000_000
PATIENT = RedisSettings(deadline=5.0)
"""A busy machine is no outage."""

_description = load_description(NAME)
JUDGE = Judge("d" * 64, _description, feature_set(_description), cast(Any, None), cast(Any, None))
PLAN = JUDGE.features.plan
assert PLAN is not None

_holders = itertools.count(1)


@dataclass(frozen=True)
class Payment:
    """A transaction; ``at`` in microseconds after ``NOW``."""

    id: str
    at: int = 0
    customer: str = "anna"
    terminal: str = "kiosk"
    amount: float = 10.0


def arriving(payments: Sequence[Payment], caller: str = "shop") -> Arrivals:
    """These payments as a store takes them in."""
    transactions = Transactions(
        ids=pa.array([each.id for each in payments], pa.string()),
        times=np.array([NOW + each.at for each in payments], np.int64),
        entities={
            "customer_id": pa.array([each.customer for each in payments], pa.string()),
            "terminal_id": pa.array([each.terminal for each in payments], pa.string()),
        },
        numbers=np.array([[each.amount] for each in payments]),
    )
    return arrivals(JUDGE, transactions, [caller] * len(payments))


def answer(tag: float = 0.5) -> StoredAnswer:
    """An answer that can be told from others."""
    return (1, tag, 0.25, float("inf"), ("amount", "terminal"), "d" * 64)


def holder() -> int:
    """A new one."""
    return next(_holders)


@asynccontextmanager
async def store_at(
    uri: str, settings: RedisSettings = PATIENT, **more: Any
) -> AsyncIterator[RedisStore]:
    """A checked store, closed at the end."""
    store = RedisStore(uri, NAME, settings, **more)
    try:
        await store.check()
        yield store
    finally:
        await store.close()


async def pay(
    store: RedisStore, *payments: Payment, caller: str = "shop", kept: StoredAnswer | None = None
) -> Reception:
    """Takes payments in, and settles the new ones."""
    mine, batch = holder(), arriving(payments, caller)
    reception = await store.receive(JUDGE, batch, mine)
    new = np.flatnonzero(reception.verdicts == 0)
    if len(new):
        kept = None if reception.missing else kept or answer()
        await store.settle(batch.take(new), [kept] * len(new), mine)
    return reception


def pay_in_memory(store: MemoryStore, *payments: Payment, caller: str = "shop") -> Reception:
    """The same by the store in memory."""
    mine, batch = holder(), arriving(payments, caller)
    assert PLAN is not None
    reception = store.receive(PLAN, batch, mine)
    new = np.flatnonzero(reception.verdicts == 0)
    store.settle(batch.take(new).identities, [answer()] * len(new), mine)
    return reception


def told(records: Records) -> list[tuple[Any, ...]]:
    """What records say, in an order that does not depend on who came first, without event ids: two
    stores need not give the same."""
    names = ["time", "amount", "count", "frauds", "unusual", "other"]
    return sorted(tuple(each) for each in records[names].tolist())


def settings_with(**changed: Any) -> RedisSettings:
    """Patient settings but for these."""
    return replace(PATIENT, **changed)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
