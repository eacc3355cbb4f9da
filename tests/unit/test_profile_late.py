"""Late events take their place in time: they see what was before, and later ones see them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.profile_kernel import LATE, TOO_LATE, UNUSUAL
from sentinel.profile_plan import LATENESS
from sentinel.profiles import Profiles, count_late
from tests.behaviour import (
    CUSTOMER,
    DAY,
    HOUR,
    MINUTE,
    NAMES,
    TERMINAL,
    Deed,
    events,
    label,
    marks_of,
    naive,
    of,
    one_by_one,
    planned,
    same,
    stories,
    told,
)

SHORT = planned(of("count", CUSTOMER, "1d"), of("known_count", CUSTOMER, "1d"))


@given(stories(ids=None), st.data())
def test_a_late_deed_sees_what_it_would_have_seen_in_time_and_so_do_those_after_it(
    story: list[Deed], data: st.DataObject
) -> None:
    deeds = sorted({deed.at: deed for deed in story}.values(), key=lambda deed: deed.at)
    late = data.draw(st.sampled_from(deeds))
    in_time = naive(deeds)
    came = [deed for deed in deeds if deed != late]
    place = deeds.index(late)
    profiles = Profiles()
    earlier = one_by_one(came, profiles) if came else np.empty((0, in_time.shape[1]), np.float32)
    same(earlier[:place], in_time[:place])
    same(told([late], profiles)[0], in_time[place])
    # Judged again, though noted already, they see the late one too; but one that was (not) unusual
    # when it came stays so.
    fixed = [at for at, name in enumerate(NAMES) if "unusual" in name]
    again = told(came[place:], profiles) if came[place:] else earlier[:0]
    again[:, fixed] = in_time[place + 1 :, fixed]
    same(again, in_time[place + 1 :])


def test_a_late_deed_changes_no_feature_that_was_told_before() -> None:
    profiles = Profiles()
    first = told([Deed(1), Deed(2, 2 * HOUR)], profiles).copy()
    told([Deed(3, HOUR)], profiles)
    same(first, naive([Deed(1), Deed(2, 2 * HOUR)]))
    kept = profiles.log(CUSTOMER).records("anna")
    assert kept["id"].tolist() == [1, 3, 2]


def test_a_late_deed_of_the_time_of_others_comes_after_them() -> None:
    deeds = [Deed(1), Deed(2), Deed(9, HOUR), Deed(3)]
    assert one_by_one(deeds, plan=SHORT)[:, 0].tolist() == [1, 2, 3, 3]


def test_what_is_behind_its_entitys_newest_is_late_and_what_is_at_it_is_not() -> None:
    profiles = Profiles()
    deeds = [Deed(1, HOUR), Deed(2, HOUR), Deed(3, HOUR - 1), Deed(4, HOUR + 1)]
    assert marks_of(deeds, profiles, SHORT) == [0, 0, LATE, 0]


def test_late_and_too_late_part_where_it_is_still_judged_exactly() -> None:
    newest = Deed(1, 30 * DAY)
    for behind, mark in (
        (1, LATE),
        (LATENESS, LATE),
        (LATENESS + 1, LATE | TOO_LATE),
        (20 * DAY, LATE | TOO_LATE),
    ):
        profiles = Profiles()
        assert marks_of([newest, Deed(2, 30 * DAY - behind)], profiles, SHORT) == [0, mark], behind


def test_late_for_one_of_its_entities_is_late() -> None:
    plan = planned(of("count", CUSTOMER, "1d"), of("count", TERMINAL, "1d"))
    deeds = [Deed(1, 9 * DAY, customer="ben"), Deed(2, HOUR), Deed(3, 0, terminal="bar")]
    assert marks_of(deeds, Profiles(), plan) == [0, LATE | TOO_LATE, LATE]


def test_rows_of_one_batch_are_not_late_for_each_other() -> None:
    _, marks = Profiles().advance(SHORT, events([Deed(1, DAY), Deed(2, 0), Deed(3, HOUR)]))
    assert marks.tolist() == [0, 0, 0]


def test_marks_are_counted_by_the_row() -> None:
    marks = np.array([0, LATE, LATE | TOO_LATE, UNUSUAL, UNUSUAL | LATE], np.uint8)
    assert count_late(marks) == (3, 1)


def far_apart() -> st.SearchStrategy[list[Deed]]:
    """Deeds over months, each at most as late as is still judged exactly."""
    steps = st.tuples(st.integers(0, 60), st.integers(0, 7 * 24), st.sampled_from("ab"))
    return st.lists(steps, min_size=6, max_size=24).map(_as_deeds)


def _as_deeds(steps: list[tuple[int, int, str]]) -> list[Deed]:
    newest: dict[str, int] = {}
    deeds = []
    for number, (ahead, behind, who) in enumerate(steps):
        newest[who] = newest.get(who, 0) + ahead * 6 * HOUR
        at = newest[who] - min(behind * HOUR, LATENESS) * (number % 3 == 0)
        deeds.append(Deed(number + 1, at, 1.0 + number, who, who, number % 2))
    return deeds


@given(far_apart())
def test_up_to_a_week_behind_its_entitys_newest_a_deed_is_judged_exactly_whatever_was_dropped(
    deeds: list[Deed],
) -> None:
    profiles = Profiles()
    same(one_by_one(deeds, profiles), naive(deeds))


def test_what_no_event_that_is_still_exact_can_see_is_dropped_once_room_is_needed() -> None:
    profiles = Profiles()
    keep = SHORT.entities[0].keep
    assert keep == 2 * HOUR + DAY + LATENESS
    told([Deed(1), Deed(2, 1), Deed(3, keep), Deed(4, keep)], profiles, SHORT)
    assert profiles.log(CUSTOMER).records("anna")["id"].tolist() == [1, 2, 3, 4]
    told([Deed(5, keep)], profiles, SHORT)
    assert profiles.log(CUSTOMER).records("anna")["id"].tolist() == [2, 3, 4, 5]


def test_a_deed_that_is_too_late_is_noted_all_the_same() -> None:
    profiles = Profiles()
    told([Deed(1, 90 * DAY)], profiles, SHORT)
    told([Deed(2)], profiles, SHORT)
    assert told([Deed(3, MINUTE)], profiles, SHORT)[0].tolist() == [2, 0]


@pytest.mark.parametrize("fraud", [0, 1])
def test_a_late_deed_that_is_sent_again_counts_once(fraud: int) -> None:
    profiles = Profiles()
    risk = planned(of("known_count", CUSTOMER, "1d"), of("known_frauds", CUSTOMER, "1d"))
    told([Deed(1, HOUR), Deed(2, 0, fraud=fraud)], profiles, risk)
    again = [Deed(2, 0, fraud=1), Deed(2, 0)]
    told(again, profiles, risk)
    assert told([Deed(9, 4 * HOUR)], profiles, risk)[0].tolist() == [2, fraud]


def test_a_label_finds_a_late_deed() -> None:
    profiles = Profiles()
    risk = planned(of("known_frauds", CUSTOMER, "30d"))
    late = Deed(2, -3 * DAY)
    told([Deed(1), late], profiles, risk)
    told([Deed(3, -DAY)], profiles, risk)
    label(profiles, [late])
    assert told([Deed(9, HOUR)], profiles, risk).tolist() == [[1]]
