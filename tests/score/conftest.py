"""Inputs for ``sentinel score``, and bundles to score them by."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from sentinel.bundle import open_bundle, write_bundle
from tests.score.scoring import Finished, run_score

PART_ROWS = 1_000
BAD_AMOUNT, BAD_CELL, SHORT_LINE = 100, 4_123, 4_200
"""Rows of ``mixed`` that cannot be accepted."""


@pytest.fixture(scope="session")
def mixed(transactions_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The rows of ``transactions_file`` in a Parquet file, a CSV file, and a folder of one under
    other names, in time order; three of them bad."""
    folder = tmp_path_factory.mktemp("mixed")
    table = pq.read_table(transactions_file)
    files = [folder / "first.parquet", folder / "second.csv", folder / "rest" / "third.parquet"]
    files[2].parent.mkdir()
    start = table.slice(0, 4_000)
    amounts = start.column("amount").to_pylist()
    amounts[BAD_AMOUNT] = None
    at = table.column_names.index("amount")
    pq.write_table(start.set_column(at, "amount", pa.array(amounts)), files[0])
    pyarrow.csv.write_csv(table.slice(4_000, 3_000).drop_columns(["is_fraud"]), files[1])
    lines = files[1].read_text().splitlines()
    cells = lines[1 + BAD_CELL - 4_000].split(",")
    cells[lines[0].replace('"', "").split(",").index("amount")] = "much"
    lines[1 + BAD_CELL - 4_000] = ",".join(cells)
    lines[1 + SHORT_LINE - 4_000] = "short"
    files[1].write_text("\n".join(lines))
    renamed = {"transaction_id": "TRANSACTION_ID", "timestamp": "TX_DATETIME"}
    names = [renamed.get(name, name) for name in table.column_names]
    pq.write_table(table.slice(7_000).rename_columns(names), files[2], row_group_size=1_700)
    return [files[0], files[1], files[2].parent]


@pytest.fixture(scope="session")
def scored(
    transactions_bundle: str, mixed: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """``mixed``, scored undisturbed."""
    out = tmp_path_factory.mktemp("scored") / "out"
    return run_score(transactions_bundle, mixed, out, "--part-rows", PART_ROWS)


@pytest.fixture(scope="session")
def cold_bundle(transactions_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same bundle, without its profiles."""
    uri = str(tmp_path_factory.mktemp("cold") / "bundle")
    bundle = open_bundle(transactions_bundle)
    profiles = bundle.manifest.profiles
    assert profiles is not None
    files = {name: data for name, data in bundle.files.items() if name != profiles.file}
    write_bundle(uri, bundle.manifest.model_copy(update={"profiles": None}), files)
    return uri


@pytest.fixture(scope="session")
def shuffled(transactions_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows of ``transactions_file`` in no order, many at the same time."""
    folder = tmp_path_factory.mktemp("shuffled")
    table = pq.read_table(transactions_file)
    at = table.column_names.index("timestamp")
    hour = 3_600_000_000
    stamps = table.column("timestamp").cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    times = pa.array(stamps // hour * hour, pa.timestamp("us"))
    table = table.set_column(at, "timestamp", times)
    order = np.random.default_rng(5).permutation(table.num_rows)
    table = table.take(pa.array(order))
    pq.write_table(table.slice(0, 5_000), folder / "a.parquet")
    pq.write_table(table.slice(5_000), folder / "b.parquet")
    return folder
