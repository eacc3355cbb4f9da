"""Profiles from tables: a file cut anywhere is told what it would be told in one go."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from sentinel.bundle import Bundle, open_bundle
from sentinel.dataset import DatasetDescription, load_description
from sentinel.errors import BundleError, TableError
from sentinel.features import feature_set
from sentinel.fields import moment
from sentinel.history import (
    LABELS_AFTER,
    History,
    end_of,
    history_of,
    table_features,
)
from sentinel.profile_store import APPLIED, UNKNOWN, Label, MemoryStore
from sentinel.table import LabelledTable, read_table
from tests.behaviour import CUSTOMER, DAY, TERMINAL
from tests.plain import PLAIN

TRANSACTIONS = load_description("transactions")
FEATURES = feature_set(TRANSACTIONS)
CUT, LATER = "2018-04-20", "2018-05-02"


@dataclass
class Carrier:
    """Whatever carries a snapshot of profiles, as a bundle does."""

    profiles: bytes | None


def fresh(description: DatasetDescription = TRANSACTIONS) -> History:
    plan = feature_set(description).plan
    assert plan is not None
    return History(description, plan)


def started(packed: bytes | None, file: Path | None = None) -> History:
    """A history that goes on from a snapshot, or a file."""
    history = fresh()
    history.start_from(cast(Bundle, Carrier(packed)), None if file is None else str(file))
    return history


def bits(features: NDArray[np.float32]) -> bytes:
    return features.tobytes()


def known(history: History) -> dict[str, dict[str, bytes]]:
    """Every record of every entity."""
    logs = history.store.profiles.logs.items()
    return {name: {key: held.tobytes() for key, held in log.items()} for name, log in logs}


@pytest.fixture(scope="module")
def whole(transactions_file: Path) -> LabelledTable:
    return read_table(str(transactions_file), TRANSACTIONS)


@pytest.fixture(scope="module")
def in_one_go(whole: LabelledTable) -> NDArray[np.float32]:
    """The features of every row of the file."""
    return table_features(whole)[0]


def since(file: Path, start: str | None, stop: str | None = None) -> LabelledTable:
    return read_table(str(file), TRANSACTIONS, start, stop, both_kinds=False)


@cache
def snapshot_until(file: Path, stop: str | None) -> bytes:
    _, history = table_features(since(file, None, stop))
    assert history is not None
    return history.packed()


# --- cuts -----------------------------------------------------------------------------------------


def test_the_file_reaches_past_the_cuts(whole: LabelledTable) -> None:
    times = whole.transactions.times
    assert times is not None
    first, last = moment(int(times[0])).isoformat(), moment(int(times[-1])).isoformat()
    assert first < CUT < LATER < last
    assert whole.frauds > 20


@pytest.mark.parametrize("start", [CUT, LATER, "2018-04-20T11:11:11Z"])
def test_rows_before_those_asked_for_feed_the_profiles(
    transactions_file: Path, in_one_go: NDArray[np.float32], start: str
) -> None:
    table = since(transactions_file, start)
    assert table.past is not None
    features, history = table_features(table)
    assert len(features) + len(table.past) == len(in_one_go)
    assert bits(features) == bits(in_one_go[len(table.past) :])
    assert history is not None
    assert history.source == "cold"


@pytest.mark.parametrize(("until", "start"), [(CUT, CUT), (CUT, LATER), (LATER, LATER)])
def test_rows_that_the_snapshot_has_already_are_not_counted_twice(
    transactions_file: Path, in_one_go: NDArray[np.float32], until: str, start: str
) -> None:
    history = started(snapshot_until(transactions_file, until))
    table = since(transactions_file, start)
    features, after = table_features(table, history)
    assert bits(features) == bits(in_one_go[len(table.past or ()) :])
    assert after is history
    assert known(history) == known(started(snapshot_until(transactions_file, None)))


def test_rows_are_told_the_same_a_second_time_by_the_profiles_that_they_made(
    transactions_file: Path, transactions_bundle: str, in_one_go: NDArray[np.float32]
) -> None:
    bundle = open_bundle(transactions_bundle)
    history = history_of(bundle)
    features, _ = table_features(since(transactions_file, None), history)
    assert bits(features) == bits(in_one_go)
    assert history is not None
    assert history.packed() == bundle.profiles


def test_a_file_read_in_any_number_of_parts_is_told_the_same(
    whole: LabelledTable, in_one_go: NDArray[np.float32]
) -> None:
    history = fresh()
    parts = []
    edges = [0, 1, 2, 500, 4_001, 4_002, 9_000, len(whole)]
    for start, stop in pairwise(edges):
        rows = whole.transactions.take(slice(start, stop))
        parts.append(FEATURES(rows, history.note(rows, whole.labels[start:stop])))
    assert bits(np.concatenate(parts)) == bits(in_one_go)


# --- where profiles come from ---------------------------------------------------------------------


def test_without_anything_profiles_are_cold(plain_bundle: str) -> None:
    history = started(None)
    assert (history.source, history.newest, len(history.store.profiles)) == ("cold", None, 0)
    assert end_of(history) == "nothing yet"
    assert history_of(open_bundle(plain_bundle)) is None


def test_the_bundle_brings_the_profiles_of_the_end_of_its_data(
    transactions_bundle: str, whole: LabelledTable
) -> None:
    bundle = open_bundle(transactions_bundle)
    history = history_of(bundle)
    times = whole.transactions.times
    assert history is not None
    assert times is not None
    assert (history.source, history.newest) == ("bundle", int(times[-1]))
    entry = bundle.manifest.profiles
    assert entry is not None
    assert entry.newest == end_of(history) == moment(int(times[-1])).isoformat()
    sizes = {name: len(log) for name, log in history.store.profiles.logs.items()}
    assert entry.entities == sizes
    assert sizes[CUSTOMER] == len(whole.transactions.entities[CUSTOMER].unique())


def test_a_file_takes_the_place_of_what_the_bundle_brings(
    transactions_file: Path, transactions_bundle: str, tmp_path: Path
) -> None:
    table = pq.read_table(transactions_file)
    file = tmp_path / "history.parquet"
    pq.write_table(table.slice(0, 3_000), file)
    history = history_of(open_bundle(transactions_bundle), str(file))
    assert history is not None
    assert history.source == "history"
    assert history.newest == history.store.profiles.newest
    expected, _ = _noted(read_table(str(file), TRANSACTIONS, both_kinds=False))
    assert history.packed() == expected.packed()


def _noted(table: LabelledTable) -> tuple[History, NDArray[np.float32]]:
    history = fresh()
    return history, history.note(table.transactions, table.labels)


def test_a_history_of_one_kind_of_rows_is_a_history(
    transactions_file: Path, tmp_path: Path
) -> None:
    table = pq.read_table(transactions_file)
    file = tmp_path / "good.parquet"
    pq.write_table(table.filter(pa.compute.equal(table.column("is_fraud"), 0)).slice(0, 50), file)
    assert len(started(None, file).store.profiles.log(CUSTOMER)) > 0


def test_profiles_that_cannot_be_read_are_an_error_and_no_cold_start(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no snapshot of profiles"):
        started(b"nothing of the kind")
    with pytest.raises(TableError, match="there is no such file"):
        started(None, tmp_path / "missing.parquet")


def test_a_description_without_profiles_needs_no_history(transactions_file: Path) -> None:
    features, history = table_features(read_table(str(transactions_file), PLAIN))
    assert history is None
    assert features.shape[1] == len(feature_set(PLAIN).names)


def test_a_table_without_ids_is_told_the_same(
    transactions_file: Path, in_one_go: NDArray[np.float32], tmp_path: Path
) -> None:
    file = tmp_path / "nameless.parquet"
    pq.write_table(pq.read_table(transactions_file).drop_columns(["transaction_id"]), file)
    assert bits(table_features(read_table(str(file), TRANSACTIONS))[0]) == bits(in_one_go)
    history = started(snapshot_until(file, CUT))
    table = since(file, CUT)
    features, _ = table_features(table, history)
    assert bits(features) == bits(in_one_go[len(table.past or ()) :])


# --- what a snapshot carries ----------------------------------------------------------------------


def test_the_same_data_gives_the_same_snapshot_bytes(
    transactions_file: Path, transactions_bundle: str
) -> None:
    packed = snapshot_until(transactions_file, None)
    assert packed == snapshot_until.__wrapped__(transactions_file, None)
    assert packed == open_bundle(transactions_bundle).profiles


def test_labels_within_the_delay_travel_along_and_count_once_it_has_passed(
    transactions_file: Path, whole: LabelledTable
) -> None:
    history = started(snapshot_until(transactions_file, None))
    times = whole.transactions.times
    assert times is not None
    young = np.flatnonzero((times > times[-1] - 7 * DAY) & (whole.labels == 1))
    assert len(young)
    row = whole.transactions.take(young[-1:])
    key = row.entities[TERMINAL][0].as_py()
    records = history.store.profiles.log(TERMINAL).records(key)
    assert row.times is not None
    assert records["frauds"][records["time"] == row.times[0]].tolist() == [1]


def test_a_label_finds_what_is_not_longer_past_the_delay_than_a_month(
    transactions_file: Path, whole: LabelledTable
) -> None:
    history = started(snapshot_until(transactions_file, None))
    times = whole.transactions.times
    assert times is not None
    old = times <= times[-1] - 7 * DAY - LABELS_AFTER
    assert 0 < old.sum() < len(old)
    names = whole.transactions.ids.to_pylist()
    first_known = int(np.flatnonzero(~old)[0])
    asked = [names[first_known - 1], names[first_known], names[-1]]
    outcomes = history.store.label([Label(name, True, 1) for name in asked])
    assert outcomes == [UNKNOWN, APPLIED, APPLIED]


def test_a_label_after_the_snapshot_is_as_one_that_stood_in_the_data(
    transactions_file: Path, whole: LabelledTable
) -> None:
    row = int(np.flatnonzero(whole.labels == 0)[-200])
    relabelled = whole.labels.copy()
    relabelled[row] = 1
    told, asked = fresh(), started(snapshot_until(transactions_file, None))
    told.note(whole.transactions, relabelled)
    name = whole.transactions.ids[row].as_py()
    assert asked.store.label([Label(name, True, 1)]) == [APPLIED]
    assert asked.packed() == started(told.packed()).packed()


def test_a_store_that_takes_a_history_over_goes_on_where_it_ended(
    transactions_file: Path, in_one_go: NDArray[np.float32]
) -> None:
    store: MemoryStore = MemoryStore()
    store.take_over(started(snapshot_until(transactions_file, LATER)).store)
    table = since(transactions_file, LATER)
    history: Any = fresh()
    history.store = store
    made = FEATURES(table.transactions, history.note(table.transactions, table.labels))
    assert bits(made) == bits(in_one_go[len(table.past or ()) :])
