"""Copies of training rows whose customer or terminal is taken for a new one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentinel.bundle import open_bundle
from sentinel.dataset import load_description
from sentinel.decision import APPROVE
from sentinel.features import feature_set
from sentinel.history import as_of_new_entities, table_features
from sentinel.profile_plan import ProfilePlan
from sentinel.table import LabelledTable, read_table
from training.fit import Features
from training.newcomers import Newcomers, newcomers


@pytest.fixture(scope="module")
def table(transactions_file: Path) -> LabelledTable:
    return read_table(str(transactions_file), load_description("transactions"))


@pytest.fixture(scope="module")
def features(table: LabelledTable) -> Features:
    return table_features(table)[0]


@pytest.fixture(scope="module")
def new(table: LabelledTable, features: Features) -> Newcomers:
    made = newcomers(table, features)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def plan(table: LabelledTable) -> ProfilePlan:
    plan = feature_set(table.description).plan
    assert plan is not None
    return plan


def test_a_quarter_of_the_rows_is_copied_frauds_and_others_alike(
    table: LabelledTable, new: Newcomers
) -> None:
    assert len(new.rows) / len(table) == pytest.approx(0.25, abs=0.02)
    rate = table.frauds / len(table)
    assert table.labels[new.rows].mean() == pytest.approx(rate, rel=0.5)
    assert (np.diff(new.rows) > 0).all()


def test_a_copy_is_its_row_but_for_the_entities_that_are_new(
    table: LabelledTable, features: Features, new: Newcomers, plan: ProfilePlan
) -> None:
    build = feature_set(table.description)
    rows = table.transactions.take(new.rows)
    unknown = build(rows, as_of_new_entities(table.description, plan, rows))
    states = []
    for entity in plan.entities:
        copy = new.features[:, entity.columns]
        as_new = equal(copy, unknown[:, entity.columns])
        assert (as_new | equal(copy, features[new.rows][:, entity.columns])).all()
        states.append(as_new)
    others = np.setdiff1d(np.arange(len(build.names)), plan.columns)
    np.testing.assert_array_equal(new.features[:, others], features[new.rows][:, others])
    assert (states[0] | states[1]).all()  # one of the two is new at least
    assert all(0.5 < state.mean() < 0.999 for state in states)


def test_a_new_entity_looks_as_one_that_profiles_have_never_seen(
    table: LabelledTable, plan: ProfilePlan
) -> None:
    one = table.transactions.take(slice(5_000, 5_001))
    alone = LabelledTable("one", table.description, one, table.labels[5_000:5_001])
    expected, _ = table_features(alone)
    build = feature_set(table.description)
    got = build(one, as_of_new_entities(table.description, plan, one))
    np.testing.assert_array_equal(got, expected)


def test_copies_of_some_rows_are_numbered_as_those_rows_are(new: Newcomers) -> None:
    rows = slice(1_000, 2_000)
    some = new.of(rows)
    held = (new.rows >= 1_000) & (new.rows < 2_000)
    np.testing.assert_array_equal(some.rows + 1_000, new.rows[held])
    np.testing.assert_array_equal(some.features, new.features[held])


def test_a_table_without_profiles_has_no_newcomers(creditcard_file: Path) -> None:
    table = read_table(str(creditcard_file), load_description("creditcard"))
    assert newcomers(table, table_features(table)[0]) is None


def test_the_large_first_payment_of_a_new_customer_is_no_case_for_approval(
    table: LabelledTable, plan: ProfilePlan, transactions_bundle: str
) -> None:
    one = table.transactions.take(slice(-1, None))
    numbers = np.tile(one.numbers, (2, 1))
    numbers[:, table.description.amount_at] = 20, 480
    both = replace(table.transactions.take(slice(-2, None)), numbers=numbers)
    build = feature_set(table.description)
    bundle = open_bundle(transactions_bundle)
    features = build(both, as_of_new_entities(table.description, plan, both))
    scores = bundle.lanes().score(features)
    small, large = bundle.judge().decide(both, replace(scores, anomaly=None)).decision
    assert small == APPROVE
    assert large != APPROVE


def equal(left: Features, right: Features) -> np.ndarray:
    """(n,) rows that are the same in all columns."""
    same: np.ndarray = ((left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1)
    return same
