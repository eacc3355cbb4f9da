"""Bundles that several suites share: made once a run by the product's own pipeline."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from sentinel.dataset import load_description
from sentinel.table import read_table
from tests.plain import PLAIN_YAML
from training.generate import Simulation, simulate, write
from training.pipeline import train

# The machine that runs the tests may be busy; a deadline would make them fail by chance.
settings.register_profile("sentinel", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("sentinel")


@pytest.fixture(scope="session")
def transactions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of simulated transactions, some 12,000 rows."""
    file = tmp_path_factory.mktemp("transactions") / "transactions.parquet"
    write(simulate(Simulation(days=40, customers=150, terminals=300, seed=7)), file)
    return file


@pytest.fixture(scope="session")
def creditcard_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file with the columns of the creditcard data and made-up numbers."""
    file = tmp_path_factory.mktemp("creditcard") / "creditcard.parquet"
    pq.write_table(creditcard_like(5_000, seed=3), file)
    return file


def creditcard_like(rows: int, seed: int) -> pa.Table:
    """Numbers with frauds that a tree can find, but not all of them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 28))
    odds = 4 * (values[:, 3] - values[:, 13] + values[:, 9] / 2) - 13
    fraud = rng.random(rows) < 1 / (1 + np.exp(-odds))
    columns = {f"V{at + 1}": values[:, at].astype(np.float32) for at in range(28)}
    amount = np.round(rng.lognormal(3, 1.2, rows), 2)
    return pa.table({**columns, "Amount": amount, "Class": fraud.astype(np.int8)})


@pytest.fixture(scope="session")
def plain_description(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``transactions`` description without the features that need profiles: the same row gets
    the same answer, whatever came before."""
    file = tmp_path_factory.mktemp("plain") / "plain.yaml"
    file.write_text(PLAIN_YAML)
    return file


@pytest.fixture(scope="session")
def plain_bundle(
    transactions_file: Path, plain_description: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The path of a bundle trained on ``transactions_file`` by ``plain_description``."""
    return _bundle(transactions_file, str(plain_description), tmp_path_factory.mktemp("bundle"))


def _bundle(data: Path, dataset: str, folder: Path) -> str:
    uri = str(folder / "bundle")
    train(read_table(str(data), load_description(dataset)), uri)
    return uri


@pytest.fixture(scope="session")
def transactions_bundle(transactions_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a bundle trained on ``transactions_file``."""
    return _bundle(transactions_file, "transactions", tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def creditcard_bundle(creditcard_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a bundle trained on ``creditcard_file``."""
    return _bundle(creditcard_file, "creditcard", tmp_path_factory.mktemp("bundle"))
