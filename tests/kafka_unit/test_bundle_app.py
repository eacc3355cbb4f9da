"""A bundle in this process answers as the application does."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from kafka_ingest.bundle_app import BundleApp
from sentinel.bundle import open_bundle
from sentinel.made_up import random_transactions
from sentinel.scoring import Decisions, score_offline
from sentinel.stream_exchange import OtherContract, Scored, pack, unpack_decisions
from sentinel.transactions import Transactions, concatenate

NOW = 1_900_000_000.0


@pytest.fixture
def app(transactions_bundle: str) -> BundleApp:
    return BundleApp(open_bundle(transactions_bundle), clock=lambda: NOW)


@pytest.fixture
def some(transactions_bundle: str) -> Transactions:
    description = open_bundle(transactions_bundle).manifest.description
    return random_transactions(description, 20, np.random.default_rng(3), NOW)


def score(app: BundleApp, rows: Transactions, topic: str = "in") -> tuple[Scored, Decisions]:
    async def ask() -> object:
        return await app.score(topic, (await app.contract()).schema, pack(rows))

    scored = asyncio.run(ask())  # type: ignore[arg-type]
    assert isinstance(scored, Scored)
    return scored, unpack_decisions(scored.decisions)


def other(rows: Transactions) -> Transactions:
    """The same ids with another amount."""
    return replace(rows, numbers=rows.numbers + 1)


def test_the_same_record_again_gets_the_same_decision_and_counts_once(
    app: BundleApp, some: Transactions
) -> None:
    twice = concatenate([some, some])
    scored, decisions = score(app, twice)
    assert scored.rows.tolist() == list(range(40))
    first, again = decisions.take(slice(0, 20)), decisions.take(slice(20, 40))
    assert first.fraud_probability.tolist() == again.fraud_probability.tolist()
    _, later = score(app, some)
    assert later.fraud_probability.tolist() == first.fraud_probability.tolist()


def test_an_id_used_with_other_fields_is_refused_and_the_others_are_not(
    app: BundleApp, some: Transactions
) -> None:
    score(app, some.take(slice(0, 5)))
    scored, decisions = score(app, concatenate([other(some.take(slice(0, 5))), some]))
    assert [error.index for error in scored.refused] == [0, 1, 2, 3, 4]
    assert scored.refused[0].field == "transaction_id"
    assert scored.rows.tolist() == list(range(5, 25))
    assert decisions.ids.to_pylist() == some.ids.to_pylist()


def test_a_batch_of_conflicts_alone_has_no_decision(app: BundleApp, some: Transactions) -> None:
    score(app, some)
    scored, decisions = score(app, other(some))
    assert len(scored.refused) == 20
    assert len(decisions) == len(scored.rows) == 0


def test_the_same_id_in_another_topic_is_another_transaction(
    app: BundleApp, some: Transactions
) -> None:
    score(app, some)
    scored, _ = score(app, other(some), topic="elsewhere")
    assert scored.refused == ()


def test_profiles_begin_with_the_bundles_where_they_end_before_the_first_record(
    transactions_bundle: str, some: Transactions
) -> None:
    bundle = open_bundle(transactions_bundle)
    late, early = BundleApp(bundle), BundleApp(bundle)
    assert some.times is not None
    score(late, some)
    score(early, replace(some, times=np.zeros(len(some), np.int64)))
    assert (late.profiles, early.profiles) == ("bundle", "cold")


def test_without_profiles_it_answers_as_scoring_offline_does(plain_bundle: str) -> None:
    bundle = open_bundle(plain_bundle)
    rows = random_transactions(bundle.manifest.description, 30, np.random.default_rng(3), NOW)
    app = BundleApp(bundle)
    _, decisions = score(app, rows)
    expected = score_offline(bundle.judge(), bundle.lanes(threads=1), rows)
    assert decisions.fraud_probability.tolist() == expected.fraud_probability.tolist()
    assert app.profiles is None


def test_columns_read_by_another_description_are_not_judged(
    app: BundleApp, some: Transactions
) -> None:
    assert isinstance(asyncio.run(app.score("in", "another", pack(some))), OtherContract)
