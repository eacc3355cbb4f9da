"""The store in memory: transactions in, what is known of them out, labels to where they belong."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.dataset import DatasetDescription
from sentinel.features import feature_set
from sentinel.identity import ANSWERED, BUSY, CONFLICT, NEW
from sentinel.profile_plan import LATENESS
from sentinel.profile_store import (
    APPLIED,
    REPEATED,
    SUPERSEDED,
    UNKNOWN,
    Arrivals,
    Label,
    MemoryStore,
    Reception,
    Seen,
    SeenTransaction,
    arrivals,
    judge_label,
    warm_up,
    without_profiles,
)
from sentinel.scoring import Judge, StoredAnswer
from sentinel.store_limits import StoreLimits
from sentinel.transactions import Transactions
from tests.behaviour import CUSTOMER, DAY, HOUR, MINUTE, START, TERMINAL, Deed, described, of

ANSWER: StoredAnswer = (0, 0.5, 0.25, 0.125, (), "d" * 64)
FEATURES = [
    of("count", CUSTOMER, "1d"),
    of("known_frauds", CUSTOMER, "30d"),
    of("count", TERMINAL, "1d"),
    of("known_frauds", TERMINAL, "30d"),
]


def judge_of(description: DatasetDescription) -> Judge:
    unused = cast(Any, None)
    return Judge("d" * 64, description, feature_set(description), unused, unused)


JUDGE = judge_of(described(FEATURES, {"label_delay": "2h"}))
_holders = itertools.count(1)


def transactions(deeds: Sequence[Deed]) -> Transactions:
    """Deeds as transactions; their ids begin with t."""
    return Transactions(
        ids=pa.array([f"t{each.id}" for each in deeds], pa.string()),
        times=np.array([START + each.at for each in deeds], np.int64),
        entities={
            name: pa.array([each.keys[name] for each in deeds], pa.string())
            for name in (CUSTOMER, TERMINAL)
        },
        numbers=np.array([[each.amount] for each in deeds]).reshape(len(deeds), 1),
    )


@dataclass
class Counter:
    """A store, and who comes to it. The clock is the test's."""

    store: MemoryStore
    now: float = 1_000.0

    @classmethod
    def open(cls, **limits: Any) -> "Counter":
        counter = cls(cast(MemoryStore, None))
        counter.store = MemoryStore(StoreLimits(**limits), clock=lambda: counter.now)
        return counter

    def receive(
        self, *deeds: Deed, caller: str = "shop", holder: int | None = None
    ) -> tuple[Reception, Arrivals, int]:
        holder = next(_holders) if holder is None else holder
        came = arrivals(JUDGE, transactions(deeds), [caller] * len(deeds))
        assert JUDGE.features.plan is not None
        return self.store.receive(JUDGE.features.plan, came, holder), came, holder

    def pay(
        self, *deeds: Deed, caller: str = "shop", answer: StoredAnswer | None = ANSWER
    ) -> Reception:
        """Takes in and settles."""
        reception, came, holder = self.receive(*deeds, caller=caller)
        new = came.take(np.flatnonzero(reception.verdicts == NEW))
        self.store.settle(new.identities, [answer] * len(new), holder)
        return reception

    def label(self, *labels: tuple[str, bool, int]) -> list[str]:
        return self.store.label([Label(*each) for each in labels])

    def frauds(self, deed: Deed) -> list[float]:
        """The known frauds of the customer and of the terminal, long after."""
        later = deed.but(id=10**6 + next(_holders), at=deed.at + 9 * HOUR)
        return self.pay(later).behaviour[0, [1, 3]].tolist()


# --- what comes in --------------------------------------------------------------------------------


def test_a_transaction_sent_twice_is_answered_once_and_counted_once() -> None:
    counter = Counter.open()
    first = counter.pay(Deed(1), Deed(2, MINUTE))
    again = counter.pay(Deed(1), Deed(2, MINUTE))
    assert first.behaviour[:, 0].tolist() == [1, 2]
    assert again.verdicts.tolist() == [ANSWERED] * 2
    assert again.answers == {0: ANSWER, 1: ANSWER}
    assert counter.pay(Deed(3, HOUR)).behaviour[:, 0].tolist() == [3]


def test_only_new_rows_of_a_mixed_batch_are_noted_and_each_stands_in_its_place() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    counter.receive(Deed(2))
    reception, _, _ = counter.receive(
        Deed(1), Deed(3, MINUTE), Deed(2), Deed(1, amount=11.0), Deed(4, 2 * MINUTE), Deed(4, HOUR)
    )
    assert reception.verdicts.tolist() == [ANSWERED, NEW, BUSY, CONFLICT, NEW, CONFLICT]
    assert list(reception.answers) == [0]
    assert reception.behaviour[[1, 4], 0].tolist() == [3, 4]
    assert np.isnan(reception.behaviour[[0, 2, 3, 5]]).all()
    assert counter.pay(Deed(9, HOUR)).behaviour[0, 0] == 5


def test_a_transaction_whose_answer_was_not_kept_is_judged_as_the_first_time() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    first = counter.pay(Deed(2, MINUTE), answer=None)
    counter.pay(Deed(3, MINUTE), Deed(4, HOUR))
    again = counter.pay(Deed(2, MINUTE))
    assert again.verdicts.tolist() == [NEW]
    assert again.behaviour.tobytes() == first.behaviour.tobytes()
    assert counter.pay(Deed(5, 2 * HOUR)).behaviour[0, 0] == 5
    assert counter.pay(Deed(2, MINUTE)).verdicts.tolist() == [ANSWERED]


def test_after_the_window_the_same_is_a_new_transaction_and_counts_again() -> None:
    counter = Counter.open(window=600.0)
    counter.pay(Deed(1))
    counter.now += 600
    again = counter.pay(Deed(1))
    assert (again.verdicts.tolist(), again.behaviour[0, 0]) == ([NEW], 2)


def test_another_callers_transaction_of_the_same_id_counts_for_itself() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    other = counter.pay(Deed(1), caller="bank")
    assert (other.verdicts.tolist(), other.behaviour[0, 0]) == ([NEW], 2)


def test_late_ones_are_counted_among_those_that_are_new() -> None:
    counter = Counter.open()
    newest = 30 * DAY
    counter.pay(Deed(1, newest), Deed(2, newest - HOUR, customer="ben", terminal="bar"))
    late = [Deed(3, newest - 1), Deed(4, newest - LATENESS - 1), Deed(5, newest)]
    reception = counter.pay(*late)
    assert (reception.late, reception.too_late) == (2, 1)
    again = counter.pay(*late)
    assert (again.late, again.too_late) == (0, 0)


def test_nothing_that_comes_is_nothing_that_is_noted() -> None:
    counter = Counter.open()
    reception, _, _ = counter.receive()
    assert reception.verdicts.tolist() == []
    assert reception.behaviour.shape == (0, 4)
    assert counter.store.figures()["identities"] == 0


def test_without_the_store_every_row_is_new_and_as_of_entities_never_seen() -> None:
    counter = Counter.open()
    counter.pay(Deed(9))
    plan = JUDGE.features.plan
    assert plan is not None
    came = arrivals(JUDGE, transactions([Deed(1), Deed(1)]), ["shop"] * 2)
    reception = without_profiles(plan, came, "it is down")
    assert (reception.verdicts.tolist(), reception.missing) == ([NEW, NEW], "it is down")
    assert reception.behaviour[0].tolist() == [1, 0, 1, 0]


def test_the_first_transactions_find_everything_compiled() -> None:
    warm_up(JUDGE)
    warm_up(judge_of(described(["amount"], {})))


def test_first_at_an_entity_without_features_of_its_own_can_be_asked_for() -> None:
    judge = judge_of(described([of("first_at", CUSTOMER, "1d", at=TERMINAL)], {}))
    plan, store = judge.features.plan, MemoryStore()
    assert plan is not None
    deeds = [Deed(1), Deed(2, terminal="bar"), Deed(3)]
    came = arrivals(judge, transactions(deeds), ["shop"] * 3)
    assert store.receive(plan, came, 1).behaviour[:, 0].tolist() == [1, 1, 0]
    assert store.label([Label("t1", True, 1)]) == [APPLIED]
    assert list(store.profiles.logs) == [CUSTOMER]


# --- labels ---------------------------------------------------------------------------------------


def test_a_label_counts_for_every_entity_of_its_transaction() -> None:
    counter = Counter.open()
    counter.pay(Deed(1), Deed(2, customer="ben"), Deed(3, terminal="bar"))
    assert counter.label(("t1", True, 5), ("t2", False, 5)) == [APPLIED, APPLIED]
    assert counter.frauds(Deed(1)) == [1, 1]
    assert counter.frauds(Deed(1, customer="ben", terminal="bar")) == [0, 0]


def test_a_label_of_what_nobody_sent_is_unknown() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    assert counter.label(("t2", True, 5), ("", True, 5), ("T1", True, 5)) == [UNKNOWN] * 3


def test_of_two_labels_the_later_one_counts_whatever_order_they_come_in() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    said = [("t1", True, 50), ("t1", True, 50), ("t1", False, 40), ("t1", True, 49)]
    assert counter.label(*said) == [APPLIED, REPEATED, SUPERSEDED, SUPERSEDED]
    assert counter.frauds(Deed(1)) == [1, 1]
    assert counter.label(("t1", False, 50)) == [APPLIED], "of the same time the one that comes last"
    assert counter.frauds(Deed(1)) == [0, 0]
    assert counter.label(("t1", False, 60), ("t1", True, 55)) == [APPLIED, SUPERSEDED]
    assert counter.frauds(Deed(1)) == [0, 0]


def test_a_label_is_of_every_transaction_of_its_id_whoever_sent_it() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    counter.pay(Deed(1, HOUR, customer="ben"), caller="bank")
    assert counter.label(("t1", True, 5)) == [APPLIED]
    assert counter.frauds(Deed(1, HOUR)) == [1, 2]


def test_a_label_that_one_of_two_knows_is_still_applied_to_the_other() -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    counter.label(("t1", True, 5))
    counter.pay(Deed(1, HOUR), caller="bank")
    assert counter.label(("t1", True, 5)) == [APPLIED]
    assert counter.label(("t1", True, 5)) == [REPEATED]
    assert counter.frauds(Deed(1, HOUR)) == [2, 2]


def test_a_transaction_judged_again_is_remembered_once_and_labelled_once() -> None:
    counter = Counter.open()
    counter.pay(Deed(1), answer=None)
    counter.pay(Deed(1))
    assert len(list(counter.store.seen.items())) == 1
    assert counter.label(("t1", True, 5)) == [APPLIED]
    assert counter.frauds(Deed(1)) == [1, 1]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=8))
def test_whatever_labels_come_the_one_of_the_latest_time_counts(
    said: list[tuple[bool, int]],
) -> None:
    counter = Counter.open()
    counter.pay(Deed(1))
    outcomes = counter.label(*(("t1", fraud, when) for fraud, when in said))
    latest = max(when for _, when in said)
    fraud = [fraud for fraud, when in said if when == latest][-1]
    assert counter.frauds(Deed(1)) == [fraud, fraud]
    assert outcomes[0] == APPLIED
    assert (UNKNOWN not in outcomes, len(outcomes)) == (True, len(said))


def test_a_label_of_a_transaction_that_came_with_a_snapshot_always_counts() -> None:
    seen = SeenTransaction(1, 2, {}, fraud=1)
    assert judge_label(Label("t", True, -(10**12)), seen) == APPLIED
    seen.labelled = 7
    for fraud, when, outcome in (
        (True, 7, REPEATED), (False, 7, APPLIED), (True, 6, SUPERSEDED), (True, 8, APPLIED),
    ):  # fmt: skip
        assert judge_label(Label("t", fraud, when), seen) == outcome


def test_what_labels_may_come_for_is_bounded_and_the_oldest_go_first() -> None:
    counter = Counter.open(labels=5)
    for number in range(1, 10):
        counter.pay(Deed(number, number * MINUTE))
    assert len(counter.store.seen) == 5
    outcomes = counter.label(*((f"t{number}", True, 1) for number in range(1, 10)))
    assert outcomes == [UNKNOWN] * 4 + [APPLIED] * 5


def test_the_same_event_is_remembered_once_and_others_of_its_name_beside_it() -> None:
    seen = Seen(10)
    seen.put(7, SeenTransaction(1, 2, {}))
    seen.put(7, SeenTransaction(1, 2, {}, fraud=1))
    seen.put(7, SeenTransaction(2, 2, {}))
    assert [(name, each.event, each.fraud) for name, each in seen.items()] == [(7, 1, 0), (7, 2, 0)]
    assert len(seen) == 1


# --- keeping --------------------------------------------------------------------------------------


def test_entities_that_are_not_written_for_their_time_are_forgotten() -> None:
    counter = Counter.open(ttl=100.0)
    counter.pay(Deed(1))
    counter.now = time.time() + 99
    assert counter.store.forget() == 0
    counter.now = time.time() + 101
    assert counter.store.forget() == 2
    assert counter.store.figures()["entities"] == {CUSTOMER: 0, TERMINAL: 0}
    assert counter.label(("t1", True, 5)) == [APPLIED], "its transaction is still known"
    assert counter.pay(Deed(2, MINUTE)).behaviour[0].tolist() == [1, 0, 1, 0]


def test_what_a_store_holds_can_be_told() -> None:
    counter = Counter.open()
    counter.pay(Deed(1), Deed(2, customer="ben"))
    figures = counter.store.figures()
    assert figures["entities"] == {CUSTOMER: 2, TERMINAL: 1}
    assert figures["identities"] == 2
    assert figures["bytes"] > 0


def test_a_store_takes_over_what_another_one_knows() -> None:
    counter, other = Counter.open(), Counter.open()
    other.pay(Deed(1), Deed(2, MINUTE))
    counter.store.take_over(other.store)
    assert counter.pay(Deed(3, HOUR)).behaviour[0, 0] == 3
    assert counter.label(("t1", True, 5)) == [APPLIED]
    assert counter.frauds(Deed(1)) == [1, 1]


@pytest.mark.parametrize("rows", [[], [1], [1, 0]])
def test_some_of_the_arrivals_are_those_rows(rows: list[int]) -> None:
    came = arrivals(JUDGE, transactions([Deed(1), Deed(2, 5, 7.0, "ben", "bar")]), ["a", "b"])
    some = came.take(np.array(rows, np.intp))
    assert some.identities == [came.identities[row] for row in rows]
    assert some.digests.tolist() == [came.digests[row] for row in rows]
    assert some.amounts.tolist() == [came.amounts[row] for row in rows]
    assert some.keys[TERMINAL].to_pylist() == [["kiosk", "bar"][row] for row in rows]
