"""A snapshot is all that is known, in bytes: nothing that is told changes by going through it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import BundleError
from sentinel.profile_snapshot import FORMAT, restore, snapshot
from sentinel.profile_store import APPLIED, UNKNOWN, Label, MemoryStore, SeenTransaction
from sentinel.profiles import Profiles
from sentinel.records import RECORDS_VERSION, event_ids, name_hashes
from tests.behaviour import (
    CUSTOMER,
    DAY,
    EVERYTHING,
    HOUR,
    MINUTE,
    START,
    TERMINAL,
    Deed,
    by_time,
    of,
    planned,
    stories,
    told,
)

RISK = planned(of("known_frauds", CUSTOMER, "30d"), of("known_frauds", TERMINAL, "30d"))


def store_of(deeds: list[Deed], most: int | None = None) -> MemoryStore:
    """A store that has noted these, and knows where they are."""
    store = MemoryStore()
    if most is not None:
        store.profiles = Profiles(most)
    told(deeds, store.profiles)
    for deed in deeds:
        store.seen.put(hash_of(deed), SeenTransaction(deed.id, START + deed.at, deed.keys))
    return store


def hash_of(deed: Deed) -> int:
    return int(name_hashes(pa.array([f"t{deed.id}"]))[0])


def again(store: MemoryStore, since: int | None = None) -> MemoryStore:
    """The same after it was saved and loaded."""
    other = MemoryStore()
    newest = restore(snapshot(store, since), other)
    assert newest == store.profiles.newest
    return other


STORY = [
    Deed(at, at * 40 * MINUTE, float(at % 9), f"c{at % 3}", f"t{at % 2}", at % 4 == 0)
    for at in range(1, 80)
]


# --- a round trip ---------------------------------------------------------------------------------


@given(stories(ids=None), stories(most=4, ids=None))
def test_a_round_trip_changes_no_feature_bit_for_bit(before: list[Deed], after: list[Deed]) -> None:
    store = store_of(by_time(before))
    copy = again(store)
    later = [deed.but(id=deed.id + 100) for deed in after] + before[:2]
    assert told(later, copy.profiles).tobytes() == told(later, store.profiles).tobytes()


@pytest.mark.parametrize("most", [4, 16, None])
def test_records_come_back_as_they_were_merged_ones_too(most: int | None) -> None:
    store = store_of(STORY, most)
    copy = again(store)
    for entity, log in store.profiles.logs.items():
        held = {key: records.tobytes() for key, records in log.items()}
        assert {key: r.tobytes() for key, r in copy.profiles.log(entity).items()} == held
        assert list(copy.profiles.log(entity).slots) == list(log.slots)


def test_the_same_profiles_are_the_same_bytes_however_the_deeds_came() -> None:
    together, alone = store_of(STORY), store_of([])
    for deed in STORY:
        told([deed], alone.profiles)
        alone.seen.put(hash_of(deed), SeenTransaction(deed.id, START + deed.at, deed.keys))
    packed = snapshot(together)
    assert snapshot(alone) == packed == snapshot(together)
    assert snapshot(again(together)) == packed


def test_a_store_that_knows_nothing_is_a_snapshot_too() -> None:
    for store in (MemoryStore(), store_of([])):
        copy = again(store)
        assert len(copy.profiles) == 0
        assert copy.profiles.newest is None
        assert told(STORY, copy.profiles).tobytes() == told(STORY).tobytes()


def test_names_of_every_script_come_back() -> None:
    names = ["日本", "Müller ", "\n", "a\0b", "'; --", "🂡" * 200]
    deeds = [Deed(at, at, customer=name) for at, name in enumerate(names, 1)]
    copy = again(store_of(deeds))
    assert list(copy.profiles.log(CUSTOMER).slots) == names


def test_what_is_there_already_is_replaced_and_the_rest_is_kept() -> None:
    store = store_of([Deed(at, at, customer="anna") for at in range(1, 40)])
    told([Deed(50, 5, customer="ben")], store.profiles)
    restore(snapshot(store_of([Deed(99, DAY, customer="anna")])), store)
    log = store.profiles.log(CUSTOMER)
    assert log.records("anna")["id"].tolist() == [99]
    assert log.records("ben")["id"].tolist() == [50]


def test_only_the_entities_that_are_wanted_are_taken() -> None:
    store = MemoryStore()
    restore(snapshot(store_of(STORY)), store, only={TERMINAL})
    assert len(store.profiles.log(TERMINAL)) == 2
    assert len(store.profiles.log(CUSTOMER)) == 0


def test_a_store_with_less_room_keeps_the_newest_of_every_entity() -> None:
    store = MemoryStore()
    store.profiles = Profiles(8)
    restore(snapshot(store_of(STORY)), store)
    for key, records in store_of(STORY).profiles.log(TERMINAL).items():
        assert store.profiles.log(TERMINAL).records(key).tobytes() == records[-8:].tobytes()


# --- what is left out -----------------------------------------------------------------------------


def test_what_is_older_than_said_is_left_out_and_the_time_itself_too() -> None:
    store = store_of([Deed(1), Deed(2, HOUR), Deed(3, 2 * HOUR), Deed(4, 0, customer="ben")])
    copy = again(store, since=START + HOUR)
    assert copy.profiles.log(CUSTOMER).records("anna")["id"].tolist() == [3]
    assert list(copy.profiles.log(CUSTOMER).slots) == ["anna"]
    assert [each.event for _, each in copy.seen.items()] == [3]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=30), st.integers(0, 7 * 24))
def test_what_is_cut_off_by_age_matters_to_no_event_within_a_week_of_the_newest(
    hours: list[int], behind: int
) -> None:
    deeds = by_time(
        Deed(at, hour * HOUR, 1.0 + at, f"c{at % 2}", fraud=at % 2)
        for at, hour in enumerate(hours, 1)
    )
    store = store_of(deeds)
    newest = START + deeds[-1].at
    copy = again(store, newest - max(each.keep for each in EVERYTHING.entities))
    late = Deed(99, deeds[-1].at - behind * HOUR, customer="c1")
    assert told([late], copy.profiles).tobytes() == told([late], store.profiles).tobytes()


# --- labels ---------------------------------------------------------------------------------------


def test_labels_still_find_their_transactions() -> None:
    deeds = STORY[:10]
    deeds = [d.but(id=int(event_ids(np.array([hash_of(d)]))[0])) for d in deeds]
    store = MemoryStore()
    told([deed.but(fraud=0) for deed in deeds], store.profiles)
    for deed, said in zip(deeds, STORY, strict=False):
        store.seen.put(hash_of(said), SeenTransaction(deed.id, START + deed.at, deed.keys))
    copy = again(store)
    labels = [Label("t3", True, 5), Label("t4", True, 5), Label("t99", True, 5)]
    assert store.label(labels) == copy.label(labels) == [APPLIED, APPLIED, UNKNOWN]
    last = [Deed(500, 20 * HOUR, customer="c0", terminal="t0")]
    assert snapshot(copy) == snapshot(store)
    assert told(last, copy.profiles, RISK).tolist() == [[1, 1]]


def test_a_fraud_that_was_known_can_be_taken_back() -> None:
    store = store_of([Deed(1, fraud=1)])
    ((name, seen),) = store.seen.items()
    seen.fraud = 1
    assert name == hash_of(Deed(1))
    copy = again(store)
    assert told([Deed(2, 3 * HOUR)], copy.profiles, RISK).tolist() == [[1, 1]]
    assert copy.label([Label("t1", False, 1)]) == [APPLIED]
    assert told([Deed(3, 3 * HOUR)], copy.profiles, RISK).tolist() == [[0, 0]]


# --- what is refused ------------------------------------------------------------------------------


def packed(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A good snapshot with one change."""
    content = msgspec.msgpack.decode(snapshot(store_of(STORY)))
    change(content)
    return msgspec.msgpack.encode(content)


def ipc(**columns: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def set_keys(content: dict[str, Any], keys: Any, lengths: Any) -> None:
    content["entities"][CUSTOMER]["keys"] = ipc(key=keys, length=lengths)


COUNT = len(STORY)
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another version": (lambda c: c.update(version=2), "profiles have version 2, this release"),
    "another format": (lambda c: c.update(format="x"), "no snapshot of profiles: Invalid value"),
    "no entities": (lambda c: c.pop("entities"), "no snapshot of profiles: Object missing"),
    "no records": (lambda c: c["entities"][CUSTOMER].pop("records"), "missing required field"),
    "records of nothing": (lambda c: c["entities"][CUSTOMER].update(records=b""), "snapshot"),
    "records cut off": (
        lambda c: c["entities"][CUSTOMER].update(records=c["entities"][CUSTOMER]["records"][:99]),
        "no snapshot of profiles",
    ),
    "a record too few": (lambda c: set_keys(c, ["a"], [COUNT + 1]), "do not fit each other"),
    "a record too many": (lambda c: set_keys(c, ["a"], [COUNT - 1]), "do not fit each other"),
    "a negative length": (lambda c: set_keys(c, ["a", "b"], [COUNT + 1, -1]), "do not fit"),
    "records of other columns": (
        lambda c: c["entities"][CUSTOMER].update(records=ipc(when=[1])),
        "no snapshot of profiles",
    ),
    "half a record": (lambda c: set_keys(c, ["a"], [COUNT + 0.5]), "no snapshot of profiles"),
    "an unknown length": (lambda c: set_keys(c, ["a"], [None]), "no snapshot of profiles"),
    "an unknown key": (lambda c: set_keys(c, [None], [COUNT]), "no snapshot of profiles"),
    "no lengths": (lambda c: c["entities"][CUSTOMER].update(keys=ipc(key=["a"])), "length"),
    "no seen": (lambda c: c.update(seen=b"PAR1"), "no snapshot of profiles"),
    "seen of other columns": (lambda c: c.update(seen=ipc(x=[1])), "no snapshot of profiles"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_bytes_that_are_no_snapshot_of_this_release_are_refused_in_one_line(what: str) -> None:
    change, message = CHANGES[what]
    with pytest.raises(BundleError) as refused:
        restore(packed(change), MemoryStore())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"\x80", b"PAR1", b"\xc1", b"[]", b"x" * 1_000])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="no snapshot of profiles: "):
        restore(data, MemoryStore())


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_snapshot_with_a_broken_byte_is_refused_or_read_but_does_no_harm(
    place: int, change: int
) -> None:
    data = bytearray(snapshot(store_of(STORY[:9])))
    data[place % len(data)] ^= change
    store = MemoryStore()
    with suppress(BundleError):
        restore(bytes(data), store)
    assert np.isfinite(told(STORY[9:], store.profiles)[:, 0]).all()


def test_a_good_snapshot_says_what_it_is() -> None:
    content = msgspec.msgpack.decode(snapshot(store_of(STORY)))
    assert (content["format"], content["version"]) == (FORMAT, RECORDS_VERSION)
    assert content["newest"] == START + STORY[-1].at
    assert sorted(content["entities"]) == [CUSTOMER, TERMINAL]
