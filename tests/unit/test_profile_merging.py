"""Memory is bounded: what an entity may take, what is wrong then, and what is used again."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel import profile_regions as regions
from sentinel.profiles import MOST, EntityLog, Profiles
from sentinel.records import SCALE, Records
from tests.behaviour import (
    CUSTOMER,
    DAY,
    HOUR,
    MINUTE,
    START,
    TERMINAL,
    Deed,
    label,
    of,
    planned,
    told,
)

UNUSUAL = {"by": CUSTOMER, "over": "30d", "above": 2, "least": 1}
PLAN = planned(
    *(of(kind, CUSTOMER, "10h") for kind in ("count", "sum", "unusual_share")),
    *(of(kind, CUSTOMER, "10h") for kind in ("known_count", "known_frauds")),
    unusual=UNUSUAL,
)
COUNT = planned(of("count", CUSTOMER, "400d"))


def customers(profiles: Profiles) -> EntityLog:
    return profiles.log(CUSTOMER)


def anna(profiles: Profiles) -> Records:
    return customers(profiles).records("anna")


def many(count: int, every: int = 6 * MINUTE) -> list[Deed]:
    """Deeds of one customer."""
    return [Deed(at, at * every, float(1 + at * 37 % 50), fraud=at % 5 == 0) for at in
            range(1, count + 1)]  # fmt: skip


# --- of one entity ------------------------------------------------------------------------------


@given(st.sampled_from([4, 8, 16]), st.integers(1, 150), st.data())
def test_an_entity_never_has_more_records_than_it_may_and_no_event_is_lost(
    most: int, count: int, data: st.DataObject
) -> None:
    profiles = Profiles(most)
    deeds = many(count)
    cut = data.draw(st.integers(0, count))
    late = data.draw(st.lists(st.integers(0, count * 6), max_size=10))
    story = deeds[:cut] + [Deed(1_000 + at, when * MINUTE) for at, when in enumerate(late)]
    story += deeds[cut:]
    for start in range(0, len(story), 5):
        told(story[start : start + 5], profiles, COUNT)
        held = anna(profiles)
        assert len(held) <= most
        assert (np.diff(held["time"]) >= 0).all()
    everything = [*deeds, *(deed for deed in story if deed.id >= 1_000)]
    assert held["count"].sum() == len(everything)
    assert held["amount"].sum() == sum(deed.amount for deed in everything) * SCALE
    assert held["frauds"].sum() == sum(deed.fraud for deed in everything)


@given(st.sampled_from([4, 8, 16, 64]), st.integers(1, 200))
def test_the_newest_half_is_always_exact(most: int, count: int) -> None:
    profiles = Profiles(most)
    deeds = many(count)
    told(deeds, profiles, PLAN)
    newest = anna(profiles)[-(most // 2) :]
    assert newest["count"].tolist() == [1] * len(newest)
    assert newest["id"].tolist() == [deed.id for deed in deeds[-(most // 2) :]]
    assert newest["frauds"].tolist() == [deed.fraud for deed in deeds[-(most // 2) :]]


@given(st.sampled_from([4, 8, 16]), st.integers(2, 120), st.integers(1, 20))
def test_a_window_is_wrong_by_no_more_than_the_records_that_its_edges_cut(
    most: int, count: int, minutes: int
) -> None:
    profiles = Profiles(most)
    deeds = many(count, minutes * MINUTE)
    told(deeds, profiles, PLAN)
    held = anna(profiles)
    last = Deed(9_999, deeds[-1].at + 1)
    got = told([last], profiles, PLAN)[0].tolist()
    now = START + last.at
    far, far_known = cut_at(held, now - 10 * HOUR), cut_at(held, now - 12 * HOUR)
    near_known = cut_at(held, now - 2 * HOUR)
    past = [deed for deed in deeds if deed.at > last.at - 10 * HOUR]
    known = [d for d in deeds if last.at - 12 * HOUR < d.at <= last.at - 2 * HOUR]
    assert 0 <= got[0] - (len(past) + 1) < far["count"]
    wrong = got[1] - (sum(deed.amount for deed in past) + last.amount)
    assert -1e-3 <= wrong <= far["amount"] / SCALE
    assert -near_known["count"] < got[3] - len(known) < far_known["count"]
    frauds = sum(deed.fraud for deed in known)
    assert -near_known["frauds"] <= got[4] - frauds <= far_known["frauds"]


def cut_at(held: Records, edge: int) -> dict[str, int]:
    """The record that a window's edge may cut: the first that ends after it."""
    place = min(int(np.searchsorted(held["time"], edge, side="right")), len(held) - 1)
    return {name: int(held[place][name]) for name in ("count", "amount", "frauds")}


def test_a_share_of_what_was_merged_is_still_the_share() -> None:
    deeds = [Deed(at, at * MINUTE, 1.0 if at % 4 else 1000.0) for at in range(1, 100)]
    bounded, exact = told(deeds, Profiles(8), PLAN), told(deeds, Profiles(), PLAN)
    np.testing.assert_array_equal(bounded[:, :3], exact[:, :3])
    assert exact[-1, 2] > 0.2


def test_what_is_kept_of_a_busy_entity_is_exact_for_windows_within_its_newest_half() -> None:
    profiles = Profiles(16)
    plan = planned(*(of(kind, CUSTOMER, "40m") for kind in ("count", "median", "maximum", "tail")))
    deeds = many(200)
    got = told(deeds, profiles, plan)
    fresh = Profiles()
    np.testing.assert_array_equal(got, told(deeds, fresh, plan))
    assert len(anna(profiles)) <= 16 < len(anna(fresh))


def test_the_default_is_exact_for_the_busiest_terminal_of_the_handbook() -> None:
    profiles = Profiles()
    told(many(MOST, 8 * HOUR), profiles, COUNT)
    assert (anna(profiles)["count"] == 1).all()
    told([Deed(9_999, MOST * 8 * HOUR)], profiles, COUNT)
    assert anna(profiles)["count"].max() == 2


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.sampled_from([4, 8, 16]))
def test_the_label_of_a_merged_record_moves_the_sum_that_holds_it(
    labelled: list[int], most: int
) -> None:
    profiles = Profiles(most)
    deeds = [Deed(at, at * MINUTE) for at in range(1, 61)]
    told(deeds, profiles, COUNT)
    frauds = set()
    for number in labelled:  # a second label takes the first one back
        frauds ^= {number}
        label(profiles, [deeds[number - 1]], int(number in frauds))
        held = anna(profiles)
        assert held["frauds"].sum() == len(frauds)
        start = 0
        for record in held:
            mine = set(range(start + 1, start + 1 + int(record["count"])))
            assert record["frauds"] == len(mine & frauds)
            start += int(record["count"])


def test_a_sum_never_falls_below_nothing_nor_rises_above_its_events() -> None:
    profiles = Profiles(4)
    deeds = [Deed(at, at * MINUTE) for at in range(1, 20)]
    told(deeds, profiles, COUNT)
    label(profiles, deeds[:1] * 50, fraud=0, before=1)
    assert anna(profiles)["frauds"].sum() == 0
    label(profiles, deeds[:1] * 50, fraud=1, before=0)
    first = anna(profiles)[0]
    assert first["frauds"] == first["count"] > 1
    assert anna(profiles)["frauds"][1:].sum() == 0


# --- of all together ------------------------------------------------------------------------------


def check(log: EntityLog) -> None:
    """No two regions overlap, and every record that was given out is somebody's or free."""
    used = [tuple(row) for row in log.regions.tolist() if row[regions.CAPACITY]]
    taken = [(start, size) for start, _, size in used]
    for level in range(32):
        place = int(log._book[1 + level])
        while place >= 0:
            taken.append((place, 1 << level))
            place = int(log.pool[place]["id"])
    taken.sort()
    ends = [start + size for start, size in taken]
    assert [start for start, _ in taken[1:]] == ends[:-1]
    assert (taken[0][0], ends[-1]) == (0, log._book[regions.USED]) if taken else True
    assert all(length <= size for _, length, size in used)
    assert log._book[regions.USED] <= len(log.pool)


steps = st.lists(
    st.tuples(st.sampled_from(["note", "drop", "load"]), st.integers(0, 9), st.integers(1, 40)),
    max_size=30,
)


@given(steps)
def test_regions_never_overlap_and_none_is_lost(told_steps: list[tuple[str, int, int]]) -> None:
    profiles = Profiles(16)
    log = customers(profiles)
    expected: dict[str, int] = {}
    clock = 0
    for what, who, count in told_steps:
        key = f"c{who}"
        if what == "note":
            deeds = [Deed(clock + at, (clock + at) * MINUTE, customer=key) for at in range(count)]
            told(deeds, profiles, COUNT)
            expected[key] = expected.get(key, 0) + count
        elif what == "drop" and key in expected:
            log.drop(key)
            del expected[key]
        elif what == "load":
            records = anna_of(count, clock)
            log.load([key], np.array([count]), records)
            expected[key] = min(count, 16)
        clock += count
        check(log)
        assert {name: int(held["count"].sum()) for name, held in log.items()} == expected
    assert len(profiles) == len(expected)


def anna_of(count: int, clock: int) -> Records:
    source = Profiles(64)
    told([Deed(clock + at, (clock + at) * MINUTE) for at in range(count)], source, COUNT)
    return anna(source)


def test_the_pool_does_not_grow_while_entities_come_and_go() -> None:
    profiles = Profiles(16)
    sizes = set()
    for day in range(60):
        deeds = [
            Deed(day * 1_000 + at, day * DAY + at, customer=f"{day}-{at % 50}", terminal="kiosk")
            for at in range(400)
        ]
        told(deeds, profiles, COUNT)
        assert profiles.forget(time.time() + 1) == 50
        assert len(profiles) == 0
        sizes.add(profiles.bytes)
    assert len(sizes) == 1
    check(customers(profiles))
    assert len(customers(profiles).regions) <= 64


def test_only_entities_that_were_not_written_are_forgotten() -> None:
    profiles = Profiles()
    told([Deed(1), Deed(2, customer="ben")], profiles, COUNT)
    between = time.time() + 1e-3
    time.sleep(2e-3)
    told([Deed(3, HOUR, customer="ben")], profiles, COUNT)
    assert profiles.forget(between) == 1
    assert list(customers(profiles).slots) == ["ben"]
    assert told([Deed(5, HOUR)], profiles, COUNT).tolist() == [[1]]
    assert told([Deed(6, HOUR, customer="ben")], profiles, COUNT).tolist() == [[3]]


def test_an_entity_that_takes_a_forgotten_ones_place_begins_with_nothing() -> None:
    profiles = Profiles(8)
    told(many(50), profiles, COUNT)
    customers(profiles).drop("anna")
    assert told([Deed(1, 0, customer="ben")], profiles, COUNT).tolist() == [[1]]
    assert len(customers(profiles).records("anna")) == 0
    assert profiles.newest == START


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1_000, 1_001, 5_000])
def test_any_number_of_entities_fits(count: int) -> None:
    profiles = Profiles()
    deeds = [Deed(at + 1, at, customer=f"c{at}") for at in range(count)]
    plan = planned(of("count", CUSTOMER, "1d"), of("count", TERMINAL, "1d"))
    features = told(deeds, profiles, plan)
    assert (features[:, 0] == 1).all()
    assert features[:, 1].tolist() == list(range(1, count + 1))
    assert (told(deeds, profiles, plan)[:, 0] == 1).all()
    assert len(profiles) == count + 1
    check(customers(profiles))
    check(profiles.log(TERMINAL))
