"""A transaction is scored by one at a time, answered once, and is one event."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentinel.identity import (
    ANSWERED,
    BUSY,
    CONFLICT,
    LEASE,
    NEW,
    VERDICTS,
    Claims,
    Verdicts,
)
from sentinel.records import name_hashes
from sentinel.scoring import StoredAnswer

WINDOW = 600.0
ANSWER: StoredAnswer = (0, 0.5, 0.25, 0.125, (), "d" * 64)
OTHER: StoredAnswer = (2, 0.75, 0.25, 0.125, ("amount",), "d" * 64)


@dataclass
class Desk:
    """Where claims are made; the clock is the test's."""

    most: int = 100
    now: float = 1_000.0
    claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        self.claims = Claims(WINDOW, self.most)

    def claim(self, *names: str, holder: int = 1, digest: int = 7, caller: str = "a") -> Verdicts:
        """Claims these transactions of one caller, all with the same fields."""
        return self.claim_all([(caller, name) for name in names], [digest] * len(names), holder)

    def claim_all(
        self, keys: Sequence[tuple[str, str]], digests: Sequence[int], holder: int
    ) -> Verdicts:
        hashes = name_hashes(pa.array([name for _, name in keys], pa.string()))
        return self.claims.claim(keys, np.array(digests, np.int64), hashes, holder, self.now)

    def settle(self, *names: str, answer: StoredAnswer | None = ANSWER, holder: int = 1) -> None:
        self.claims.settle([("a", name) for name in names], [answer] * len(names), holder)

    def verdict(self, name: str = "t", **how: Any) -> str:
        return VERDICTS[int(self.claim(name, **how).codes[0])]


def test_the_verdicts_are_named_in_their_order() -> None:
    assert [VERDICTS[code] for code in (NEW, ANSWERED, BUSY, CONFLICT)] == [
        "new", "answered", "waiting", "conflict",
    ]  # fmt: skip


def test_what_was_never_claimed_is_new_each_with_an_event_of_its_own() -> None:
    verdicts = Desk().claim("t", "u", "v")
    assert verdicts.codes.tolist() == [NEW] * 3
    assert len(set(verdicts.events.tolist())) == 3
    assert verdicts.answers == {}


def test_what_was_answered_gets_that_answer_whoever_holds_it_then() -> None:
    desk = Desk()
    desk.claim("t", "u")
    desk.settle("u", answer=OTHER)
    desk.settle("t")
    verdicts = desk.claim("u", "x", "t", holder=2)
    assert verdicts.codes.tolist() == [ANSWERED, NEW, ANSWERED]
    assert verdicts.answers == {0: OTHER, 2: ANSWER}


def test_what_is_being_scored_is_waited_for_until_its_lease_ends() -> None:
    desk = Desk()
    first = desk.claim("t").events[0]
    desk.now += LEASE - 0.001
    assert desk.verdict(holder=2) == "waiting"
    desk.now += 0.001
    taken = desk.claim("t", holder=2)
    assert taken.codes.tolist() == [NEW]
    assert taken.events[0] == first, "it is the same event"
    desk.now += LEASE - 0.001
    assert desk.verdict(holder=3) == "waiting", "the lease is the new holder's"


def test_who_was_taken_for_dead_cannot_settle_what_another_holds() -> None:
    desk = Desk()
    desk.claim("t")
    desk.now += LEASE
    desk.claim("t", holder=2)
    desk.settle("t", answer=OTHER, holder=1)
    assert desk.verdict(holder=3) == "waiting"
    desk.settle("t", holder=2)
    desk.settle("t", answer=OTHER, holder=1)
    assert desk.claim("t", holder=3).answers == {0: ANSWER}


def test_of_twins_in_one_call_the_first_is_scored_and_the_others_wait() -> None:
    desk = Desk()
    assert desk.claim("t", "u", "t", "t").codes.tolist() == [NEW, NEW, BUSY, BUSY]
    desk.settle("t", "u")
    assert desk.claim("t", "t", holder=2).codes.tolist() == [ANSWERED] * 2


def test_the_same_call_again_by_the_same_holder_gets_the_same_claims() -> None:
    desk = Desk()
    first = desk.claim("t", "u", "t")
    again = desk.claim("t", "u", "t")
    assert again.codes.tolist() == first.codes.tolist() == [NEW, NEW, BUSY]
    assert again.events[:2].tolist() == first.events[:2].tolist()
    assert desk.claim("t", "u", "t", holder=2).codes.tolist() == [BUSY] * 3


def test_the_same_call_again_after_it_was_settled_gets_the_answers() -> None:
    desk = Desk()
    desk.claim("t")
    desk.settle("t")
    assert desk.claim("t").answers == {0: ANSWER}


def test_an_answer_not_worth_keeping_frees_the_claim_at_once_and_keeps_its_event() -> None:
    desk = Desk()
    first = desk.claim("t").events[0]
    desk.settle("t", answer=None)
    again = desk.claim("t", holder=2)
    assert again.codes.tolist() == [NEW]
    assert again.events[0] == first
    assert desk.verdict(holder=3) == "waiting"
    desk.settle("t", holder=2)
    assert desk.verdict(holder=3) == "answered"


def test_other_fields_under_the_same_id_are_a_conflict_in_every_state() -> None:
    desk = Desk()
    desk.claim("t")
    assert desk.verdict(holder=2, digest=8) == "conflict"
    assert desk.verdict(holder=1, digest=8) == "conflict"
    desk.settle("t", answer=None)
    assert desk.verdict(holder=2, digest=8) == "conflict"
    desk.claim("t", holder=2)
    desk.settle("t", holder=2)
    assert desk.verdict(holder=3, digest=8) == "conflict"
    assert desk.verdict(holder=3) == "answered", "the first one stays what it was"


def test_of_two_with_one_id_in_one_call_the_second_is_a_conflict() -> None:
    verdicts = Desk().claim_all([("a", "t"), ("a", "t"), ("a", "t")], [7, 8, 7], 1)
    assert verdicts.codes.tolist() == [NEW, CONFLICT, BUSY]


def test_another_callers_id_is_another_transaction() -> None:
    desk = Desk()
    first = desk.claim("t").events[0]
    other = desk.claim("t", caller="b", digest=8)
    assert other.codes.tolist() == [NEW]
    assert other.events[0] != first


def test_a_caller_cannot_pass_for_another_by_his_ids() -> None:
    desk = Desk()
    assert desk.claim_all([("a", "bc"), ("ab", "c"), ("", "abc")], [7, 8, 9], 1).codes.tolist() == [
        NEW, NEW, NEW,
    ]  # fmt: skip


def test_after_the_window_the_same_id_is_a_new_transaction() -> None:
    desk = Desk()
    first = desk.claim("t").events[0]
    desk.settle("t")
    desk.now += WINDOW - 0.001
    assert desk.verdict(holder=2) == "answered"
    desk.now += 0.001
    again = desk.claim("t", holder=2, digest=8)
    assert again.codes.tolist() == [NEW]
    assert again.events[0] != first
    desk.settle("t", answer=OTHER, holder=2)
    desk.now += WINDOW - 0.001
    assert desk.claim("t", holder=3, digest=8).answers == {0: OTHER}


def test_what_is_older_than_the_window_is_forgotten_without_being_asked_for() -> None:
    desk = Desk()
    desk.claim(*(f"t{at}" for at in range(50)))
    desk.now += WINDOW
    desk.claim("x")
    assert len(desk.claims) == 1


def test_claims_are_bounded_in_count_and_the_oldest_go_first() -> None:
    desk = Desk(most=10)
    for at in range(50):
        desk.claim(f"t{at}")
        desk.settle(f"t{at}")
        assert len(desk.claims) <= 10 + 1
    desk.claim("x", holder=2)
    assert [desk.verdict(f"t{at}", holder=2) for at in (49, 45)] == ["answered"] * 2
    assert desk.verdict("t30", holder=2) == "new"


def test_a_clock_that_is_set_back_forgets_nothing() -> None:
    desk = Desk()
    desk.claim("t")
    desk.settle("t")
    desk.now -= 10_000
    assert desk.verdict(holder=2) == "answered"


def test_no_transactions_are_no_claims() -> None:
    verdicts = Desk().claim()
    assert (verdicts.codes.tolist(), verdicts.events.tolist(), verdicts.answers) == ([], [], {})


moves = st.lists(
    st.tuples(
        st.sampled_from(["claim", "settle", "degrade", "wait"]),
        st.integers(1, 3),
        st.lists(st.sampled_from("tuv"), min_size=1, max_size=4),
    ),
    max_size=40,
)


@given(moves)
def test_no_transaction_is_ever_two_events_or_held_by_two_at_once(
    story: list[tuple[str, int, list[str]]],
) -> None:
    desk = Desk()
    events: dict[str, int] = {}
    holders: dict[str, tuple[int, float]] = {}
    answered: set[str] = set()
    for what, holder, names in story:
        if what == "wait":
            desk.now += 2.0
        elif what == "claim":
            verdicts = desk.claim(*names, holder=holder)
            for row, (name, code) in enumerate(zip(names, verdicts.codes.tolist(), strict=True)):
                assert (code == ANSWERED) == (name in answered)
                if code == NEW:
                    assert (
                        events.setdefault(name, int(verdicts.events[row])) == verdicts.events[row]
                    )
                    held_by, until = holders.get(name, (0, 0.0))
                    assert held_by in (0, holder) or until <= desk.now
                    holders[name] = (holder, desk.now + LEASE)
        else:
            desk.settle(*names, answer=ANSWER if what == "settle" else None, holder=holder)
            for name in names:
                if holders.get(name, (0, 0.0))[0] == holder:
                    holders[name] = (0, 0.0)
                    answered |= {name} if what == "settle" else set()
