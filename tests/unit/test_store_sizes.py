"""What the documents say that things in memory weigh."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sentinel.identity import Claims
from sentinel.profile_store import Seen, SeenTransaction

DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"
MANY = 5_000


def stated(setting: str) -> float:
    """Bytes each, by the table of settings."""
    row = re.search(rf"\| `{setting}` \|.* some ([0-9.]+) KB each \|", DOCS.read_text())
    assert row is not None
    return 1000 * float(row[1])


def weight(work: Callable[[], object]) -> float:
    """Bytes each that are held after ``work`` has made so many."""
    tracemalloc.start()
    try:
        kept = work()
        held, _ = tracemalloc.get_traced_memory()
        assert kept is not None
        return held / MANY
    finally:
        tracemalloc.stop()


def test_identities_weigh_what_is_said() -> None:
    def work() -> Claims:
        claims = Claims(600, MANY)
        for row in range(MANY):
            key = ("http:checkout", f"transaction-{row:012d}")
            claims.claim([key], np.array([row]), np.array([row << 20]), 1, 0.0)
            claims.settle([key], [(0, 0.1 + row, 0.2 + row, 0.3 + row, (), "d" * 64)], 1)
        return claims

    assert 0.75 < weight(work) / stated("identities") < 1.25


def test_transactions_that_a_label_finds_weigh_what_is_said() -> None:
    def work() -> Seen:
        seen = Seen(MANY)
        for row in range(MANY):
            keys = {"customer_id": f"c{row}", "terminal_id": f"t{row}"}
            when = 1_532_000_000_000_000 + row
            seen.put(row << 20, SeenTransaction(row << 20, when, keys))
        return seen

    assert 0.75 < weight(work) / stated("labels") < 1.25
