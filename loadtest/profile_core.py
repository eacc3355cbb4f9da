"""The speed of profiles on one core: the features of a table, and the same a batch at a time.

The best of several repeats: each takes seconds, and what disturbs one does not slow another.
Whatever is compiled when it is first used was used before.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.payments import PACE, START, batches, frauds, payments
from sentinel.dataset import DatasetDescription, load_description
from sentinel.features import FeatureSet, feature_set
from sentinel.identity import field_digests
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_store import Arrivals, MemoryStore
from sentinel.profiles import Events, Profiles
from sentinel.records import event_ids, name_hashes
from sentinel.scoring import StoredAnswer
from sentinel.transactions import Transactions

ROWS = 1_000_000
REPEATS = 3
BATCH, BATCHES = 64, 300

HANDBOOK = (
    "amount",
    "weekend",
    "night",
    {"kind": "count", "by": "customer_id", "over": ["1d", "7d", "30d"]},
    {"kind": "mean", "by": "customer_id", "over": ["1d", "7d", "30d"]},
    {"kind": "known_count", "by": "terminal_id", "over": ["1d", "7d", "30d"]},
    {"kind": "known_fraud_rate", "by": "terminal_id", "over": ["1d", "7d", "30d"]},
)
"""The 15 features of the Fraud Detection Handbook's baseline; a label is known after 7 days."""

TABLE_GOAL, BATCHES_GOAL = 500_000, 50_000

_ANSWER: StoredAnswer = (0, 0.01, 0.4, 0.5, (), "0" * 64)


Work = Callable[[MemoryStore, ProfilePlan, Sequence[Arrivals]], None]


class ProfileCell(msgspec.Struct, frozen=True):
    """One figure: ``rows_per_s`` of one core, and what it should at least be."""

    step: str
    rows_per_s: int
    goal: int | None = None


def measure_profiles(
    on_step: Callable[[str], None] = lambda _: None, rows: int = ROWS, repeats: int = REPEATS
) -> list[ProfileCell]:
    """Every row of the table."""
    on_step("making up payments to time profiles with")
    table, labels = payments(rows, 1), frauds(rows, 2)
    shipped = feature_set(load_description("transactions"))
    handbook = feature_set(handbook_description())
    cells = []
    for name, features, goal in (
        ("the handbook's", handbook, TABLE_GOAL),
        ("the shipped", shipped, None),
    ):
        on_step(f"profiles: {name} features of {rows:,} rows")
        make_features(features, table.take(slice(0, BATCH)), labels[:BATCH])
        work = partial(make_features, features, table, labels)
        best = max(_rate(rows, work) for _ in range(repeats))
        what = f"{name} {len(features.names)} features, a table of {rows:,} rows"
        cells.append(ProfileCell(what, best, goal))
    on_step(f"profiles: batches of {BATCH}")
    return cells + _online(shipped, table, labels, repeats)


def profile_table(cells: Sequence[ProfileCell]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows."""
    return ["step", "rows/s", "goal"], [
        [cell.step, f"{cell.rows_per_s:,}", "" if cell.goal is None else f"{cell.goal:,}"]
        for cell in cells
    ]


def handbook_description() -> DatasetDescription:
    """``transactions`` with the handbook's features instead of its own."""
    content = load_description("transactions").model_dump(mode="json")
    content |= {"features": HANDBOOK, "behaviour": {"label_delay": "7d"}}
    return DatasetDescription.model_validate(content)


def make_features(
    features: FeatureSet, table: Transactions, labels: NDArray[np.int8]
) -> NDArray[np.float32]:
    """(n, f) features of a table whose entities were never seen before."""
    assert features.plan is not None
    events = _events(features.plan, table, labels)
    behaviour, _ = Profiles().advance(features.plan, events)
    return features(table, behaviour)


def _online(
    features: FeatureSet, table: Transactions, labels: NDArray[np.int8], repeats: int
) -> list[ProfileCell]:
    """Batches that go on from filled profiles: the features alone, and all that a store does."""
    plan = features.plan
    assert plan is not None
    store = MemoryStore()
    store.profiles.advance(plan, _events(plan, table, labels))
    count, start = BATCH * BATCHES, START + len(table) * PACE
    rates: dict[Work, list[int]] = {_note: [], _receive: []}
    for turn in range(2 * (repeats + 1)):
        work = (_note, _receive)[turn % 2]
        later = payments(count, 3 + turn, start + turn * count * PACE)
        arrivals = [_arrivals(plan, batch) for batch in batches(later, BATCH)]
        rates[work].append(_rate(count, partial(work, store, plan, arrivals)))
    name = f"the shipped {len(features.names)} features, batches of {BATCH}"
    return [
        ProfileCell(name, max(rates[_note][1:]), BATCHES_GOAL),
        ProfileCell(f"{name}, with identity", max(rates[_receive][1:])),
    ]


def _note(store: MemoryStore, plan: ProfilePlan, arrivals: Sequence[Arrivals]) -> None:
    for each in arrivals:
        store.profiles.advance(plan, each.events(event_ids(name_hashes(each.ids))))


def _receive(store: MemoryStore, plan: ProfilePlan, arrivals: Sequence[Arrivals]) -> None:
    """What a router has done for each of its batches: claimed, noted, answered."""
    for holder, each in enumerate(arrivals, 1):
        store.receive(plan, each, holder)
        store.settle(each.identities, [_ANSWER] * len(each), holder)


def _events(plan: ProfilePlan, table: Transactions, labels: NDArray[np.int8]) -> Events:
    arrivals = _arrivals(plan, table)
    ids = event_ids(name_hashes(arrivals.ids))
    return Events(arrivals.times, arrivals.amounts, arrivals.keys, ids, labels.astype(np.uint8))


def _arrivals(plan: ProfilePlan, transactions: Transactions) -> Arrivals:
    assert transactions.times is not None
    return Arrivals(
        callers=[""] * len(transactions),
        ids=transactions.ids,
        digests=field_digests(transactions),
        times=transactions.times,
        amounts=transactions.numbers[:, 0],
        keys={name: transactions.entities[name] for name in plan.keys},
    )


def _rate(rows: int, work: Callable[[], object]) -> int:
    """Rows a second of the processor's time."""
    start = time.process_time()
    work()
    return round(rows / (time.process_time() - start))
