"""One real ``sentinel serve`` for all tests that only ask it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.serve.serving import Row, Served, sentinel_serve


@pytest.fixture(scope="session")
def served(transactions_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``sentinel serve`` with the transactions bundle; at the end SIGTERM must leave nothing."""
    with sentinel_serve(transactions_bundle, tmp_path_factory.mktemp("served")) as running:
        yield running
        left = running.stop(signal.SIGTERM)
        assert running.process.returncode == 0, running.log.read_text()
        assert not left, "processes were left behind"


@pytest.fixture(scope="session")
def rows(transactions_file: Path) -> list[Row]:
    """Some 1,000 transactions as a payment service would post them."""
    table = pq.read_table(transactions_file).slice(0, 1_000)
    return [
        {
            "transaction_id": str(row["transaction_id"]),
            "timestamp": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "customer_id": str(row["customer_id"]),
            "terminal_id": str(row["terminal_id"]),
            "amount": row["amount"],
        }
        for row in table.to_pylist()
    ]
