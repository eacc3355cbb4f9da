"""Profiles: what an event sees depends on the events before it alone, never on how they came."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.profiles import Events, Profiles
from sentinel.records import SCALE, event_ids, name_hashes, scaled
from tests.behaviour import (
    CUSTOMER,
    DAY,
    EVERYTHING,
    HOUR,
    MINUTE,
    START,
    TERMINAL,
    Deed,
    Oracle,
    by_time,
    events,
    label,
    of,
    one_by_one,
    planned,
    same,
    stories,
    told,
)

COUNT = planned(of("count", CUSTOMER, "1d"), of("count", TERMINAL, "1d"))
RISK = planned(of("known_frauds", CUSTOMER, "30d"), of("known_frauds", TERMINAL, "30d"))


def bits(features: NDArray[np.float32]) -> list[list[int]]:
    return features.view(np.uint32).tolist()


def records(profiles: Profiles) -> dict[str, dict[str, bytes]]:
    """Everything that profiles remember."""
    return {
        entity: {key: held.tobytes() for key, held in log.items()}
        for entity, log in profiles.logs.items()
    }


# --- batches ------------------------------------------------------------------------------------


@given(stories(), st.data())
def test_however_deeds_in_time_order_are_cut_into_batches_they_see_the_same_bit_for_bit(
    story: list[Deed], data: st.DataObject
) -> None:
    deeds = by_time(story)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(deeds)), max_size=4)))
    together, alone, cut = Profiles(), Profiles(), Profiles()
    whole = told(deeds, together)
    assert bits(one_by_one(deeds, alone)) == bits(whole)
    edges = zip([0, *cuts], [*cuts, len(deeds)], strict=True)
    parts = [told(deeds[start:stop], cut) for start, stop in edges]
    assert bits(np.concatenate(parts)) == bits(whole)
    assert records(alone) == records(cut) == records(together)


@given(stories(ids=None), st.data())
def test_the_order_of_rows_in_a_batch_matters_for_equal_times_alone(
    story: list[Deed], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(story))))
    shuffled = [story[at] for at in order]
    # Of equal times they keep the order they had.
    times = [deed.at for deed in story]
    held = {time: iter([at for at, other in enumerate(times) if other == time]) for time in times}
    order = [next(held[deed.at]) for deed in shuffled]
    one, other = Profiles(), Profiles()
    expected = told(story, one)
    assert bits(told([story[at] for at in order], other)) == bits(expected[order])
    for entity in (CUSTOMER, TERMINAL):
        for key, held_records in one.log(entity).items():
            assert other.log(entity).records(key).tobytes() == held_records.tobytes()


def test_a_batch_of_more_than_a_thousand_rows_is_as_many_single_ones() -> None:
    deeds = [
        Deed(at, at * MINUTE, float(at % 71), f"c{at * 7 % 40}", f"t{at % 9}")
        for at in range(1, 1_500)
    ]
    together, alone = Profiles(), Profiles()
    assert bits(told(deeds, together)) == bits(one_by_one(deeds, alone))
    assert records(together) == records(alone)


def test_of_equal_times_the_one_that_came_first_is_seen_by_the_others() -> None:
    twins = [Deed(1), Deed(2), Deed(3)]
    assert told(twins, plan=COUNT)[:, 0].tolist() == [1, 2, 3]
    assert one_by_one(twins, plan=COUNT)[:, 0].tolist() == [1, 2, 3]


def test_no_events_see_nothing_and_leave_nothing() -> None:
    profiles = Profiles()
    features = told([], profiles)
    assert features.shape == (0, len(EVERYTHING.columns))
    assert (len(profiles), profiles.newest) == (0, None)


def test_events_are_left_as_they_were() -> None:
    came = events([Deed(2, HOUR, 1e300), Deed(1, 0, 3.33)])
    before = [column.copy() for column in (came.times, came.amounts, came.ids, came.frauds)]
    Profiles().advance(EVERYTHING, came)
    for column, held in zip((came.times, came.amounts, came.ids, came.frauds), before, strict=True):
        assert column.tobytes() == held.tobytes()


def test_columns_that_are_part_of_a_larger_table_are_read_where_they_begin() -> None:
    deeds = [Deed(at, at * MINUTE, float(at), f"c{at % 3}", f"t{at % 2}") for at in range(1, 20)]
    whole = events(deeds)
    part = Events(
        whole.times[5:],
        whole.amounts[5:],
        {name: column[5:] for name, column in whole.keys.items()},
        whole.ids[5:],
        whole.frauds[5:],
    )
    made, _ = Profiles().advance(EVERYTHING, part)
    expected, _ = Profiles().advance(EVERYTHING, events(deeds[5:]))
    assert bits(made) == bits(expected)


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_any_time_that_can_be_written_can_be_noted(time: int) -> None:
    deeds = [Deed(1, time - START), Deed(2, time - START)]
    assert told(deeds, plan=COUNT)[:, 0].tolist() == [1, 2]
    assert np.isfinite(told(deeds)[:, -1]).all()


# --- the same event again -------------------------------------------------------------------------


@given(stories(ids=None), st.data())
def test_an_event_sent_again_counts_once_and_sees_what_it_saw_the_first_time(
    story: list[Deed], data: st.DataObject
) -> None:
    deeds = by_time(story)
    profiles = Profiles()
    first = one_by_one(deeds, profiles)
    before = records(profiles)
    again = data.draw(st.lists(st.integers(0, len(deeds) - 1), min_size=1, max_size=6))
    repeated = told([deeds[at] for at in again], profiles)
    assert bits(repeated) == bits(first[again])
    assert records(profiles) == before


def test_an_event_given_twice_in_a_batch_counts_once() -> None:
    deeds = [Deed(1), Deed(1), Deed(2, HOUR), Deed(1)]
    assert told(deeds, plan=COUNT)[:, 0].tolist() == [1, 1, 2, 1]


def test_the_same_id_at_another_time_is_another_event() -> None:
    assert one_by_one([Deed(1), Deed(1, 1)], plan=COUNT)[:, 0].tolist() == [1, 2]


def test_an_event_that_only_one_of_its_entities_knows_is_noted_by_the_other() -> None:
    profiles = Profiles()
    told([Deed(1)], profiles, COUNT)
    told([Deed(1, terminal="bar")], profiles, COUNT)
    after = told([Deed(2, 1, terminal="bar")], profiles, COUNT)
    assert after.tolist() == [[2, 2]]


# --- labels -------------------------------------------------------------------------------------


@given(stories(ids=None))
def test_labels_that_come_before_the_delay_are_as_labels_that_come_at_once(
    story: list[Deed],
) -> None:
    deeds = by_time(story)
    at_once, later = Profiles(), Profiles()
    expected = one_by_one(deeds, at_once)
    unlabelled: list[Deed] = []
    got = []
    for deed in deeds:
        due = [one for one in unlabelled if one.at <= deed.at - 2 * HOUR]
        label(later, [one for one in due if one.fraud])
        unlabelled = [one for one in unlabelled if one not in due]
        got.append(told([deed.but(fraud=0)], later))
        unlabelled.append(deed)
    assert bits(np.concatenate(got)) == bits(expected)


@given(stories(ids=None), st.data())
def test_labels_that_are_corrected_count_as_they_were_corrected(
    story: list[Deed], data: st.DataObject
) -> None:
    deeds = by_time(story)
    profiles, oracle = Profiles(), Oracle()
    for deed in deeds:
        same(told([deed], profiles)[0], np.float32(oracle(deed)))
        changed, fraud = data.draw(st.sampled_from(deeds)), data.draw(st.integers(0, 1))
        label(profiles, [changed], fraud)  # of one that has not come yet: nothing
        oracle.label(changed, fraud)
    last = Deed(99, deeds[-1].at + HOUR)
    same(told([last], profiles)[0], np.float32(oracle(last)))


def test_a_label_of_what_was_never_noted_changes_nothing() -> None:
    profiles = Profiles()
    told([Deed(1), Deed(2, HOUR)], profiles)
    before = records(profiles)
    strangers = [
        Deed(3),  # another event of the same moment
        Deed(1, MINUTE),  # the same event at another time
        Deed(1, customer="nobody", terminal="nowhere"),
        Deed(4, -DAY),
        Deed(5, DAY),
    ]
    label(profiles, strangers)
    assert records(profiles) == before


def test_many_labels_at_once_are_many_labels_one_by_one() -> None:
    deeds = [Deed(at, at * MINUTE, customer=f"c{at % 3}") for at in range(1, 60)]
    one, other = Profiles(), Profiles()
    told(deeds, one)
    told(deeds, other)
    label(one, deeds[::2])
    for deed in deeds[::2]:
        label(other, [deed])
    assert records(one) == records(other)
    assert told([Deed(99, 5 * HOUR, customer="c1")], one, RISK)[0].tolist() == [10, 30]


# --- what records are made of ---------------------------------------------------------------------


@pytest.mark.parametrize("most", [-1, 0, 1, 2, 3, 5, 500])
def test_the_most_records_of_an_entity_are_a_power_of_two(most: int) -> None:
    with pytest.raises(ValueError, match=f"most is {most}; expected a power of two, 4 or more"):
        Profiles(most)


@given(st.lists(st.text(max_size=8), max_size=30), st.integers(0, 5))
def test_the_hash_of_a_name_is_its_own_wherever_it_stands(names: list[str], start: int) -> None:
    column = pa.array(names, pa.string())
    alone = [int(name_hashes(pa.array([name], pa.string()))[0]) for name in names]
    assert name_hashes(column).tolist() == alone
    assert name_hashes(column[start:]).tolist() == alone[start:]
    assert 0 not in alone
    assert len(set(alone)) == len(set(names))


def test_the_hash_of_a_name_stays_what_it_is_in_every_release() -> None:
    names = pa.array(["", "42", "anna", "Müller", "日本"], pa.string())
    assert name_hashes(names).tolist() == [
        -1388729422223754158,
        -6343404708184589533,
        6962257967805200751,
        5607160365099163243,
        -5487015419938084343,
    ]


def test_an_event_id_tells_transactions_of_one_name_apart_and_is_never_zero() -> None:
    names = np.array([0, 1, -1, 0xFFFF, 0x10000, -(2**63), 2**63 - 1], np.int64)
    assert (event_ids(names) != 0).all()
    every = event_ids(np.repeat(names[1:2], 0x10000), np.arange(0x10000, dtype=np.uint16))
    assert (every != 0).all()
    assert len(set(every.tolist())) == 0xFFFF


@given(st.floats(0, allow_infinity=False, allow_nan=False))
def test_an_amount_is_counted_to_the_ten_thousandth_up_to_a_billion(amount: float) -> None:
    (parts,) = scaled(np.array([amount])).tolist()
    assert abs(parts / SCALE - min(amount, 1e9)) <= 0.5 / SCALE + 1e-6 * (amount > 1e8)
    assert 0 <= parts <= 10**13
