"""Made-up raw transactions of the ``transactions`` description, in time order.

As many customers and terminals as the Fraud Detection Handbook simulates, at about its pace: a
million payments in 120 days. At that pace an entity has some sixty of them within its windows.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.transactions import Transactions

CUSTOMERS, TERMINALS = 5_000, 10_000
PACE = 120 * 86_400 / 1_000_000
"""Seconds from one payment to the next, on average."""

START = 1_522_540_800
"""Seconds since 1970: 1 April 2018, with which the handbook's data begin."""

FRAUDS = 0.01


def payments(count: int, seed: int, start: float = START) -> Transactions:
    """So many from ``start`` (seconds since 1970) on; their ids are those of this seed alone."""
    rng = np.random.default_rng(seed)
    # Some customers pay often and some seldom, as in the handbook.
    often = np.random.default_rng(0).random(CUSTOMERS)
    customers = rng.choice(CUSTOMERS, count, p=often / often.sum())
    terminals = rng.integers(0, TERMINALS, count)
    # To the second, as in requests.
    times = np.int64(start) + (np.arange(count) * PACE).astype(np.int64)
    return Transactions(
        ids=pa.array(np.char.add(f"s{seed}-", np.arange(count).astype(str))),
        times=times * 1_000_000,
        entities={"customer_id": _names(customers), "terminal_id": _names(terminals)},
        numbers=np.round(rng.lognormal(3, 1.2, (count, 1)), 2),
    )


def frauds(count: int, seed: int) -> NDArray[np.int8]:
    """(n,) labels to go with them."""
    return (np.random.default_rng(seed).random(count) < FRAUDS).astype(np.int8)


def batches(transactions: Transactions, rows: int) -> Iterator[Transactions]:
    """All of them, so many at a time; what is left over is dropped."""
    for start in range(0, len(transactions) - rows + 1, rows):
        yield transactions.take(slice(start, start + rows))


def _names(numbers: NDArray[np.int64]) -> pa.StringArray:
    return pa.array(numbers.astype(str))
