"""The same transaction sent twice is known by its fields, whatever they came as."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.dataset import DatasetDescription, load_description, parse_description
from sentinel.identity import field_digests
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser

PAYMENTS = load_description("transactions")
WALLET = parse_description(
    """
name: wallet
summary: Payments from a phone wallet
id: id
time: when
label: fraud
amount: value
entities: [payer, shop]
fields:
  id: {type: string, meaning: m}
  when: {type: timestamp, meaning: m}
  payer: {type: string, meaning: m}
  shop: {type: string, meaning: m}
  value: {type: number, meaning: m, minimum: 0}
  balance: {type: number, meaning: m, optional: true}
  items: {type: integer, meaning: m, optional: true}
  rooted: {type: boolean, meaning: m}
  channel: {type: category, meaning: m, values: [app, web], optional: true}
  fraud: {type: label, meaning: m}
features: [value]
""",
    "wallet",
)
ROW = {
    "id": "p1",
    "when": "2018-08-01T10:00:00Z",
    "payer": "anna",
    "shop": "kiosk",
    "value": 5.0,
    "balance": -2.5,
    "items": 3,
    "rooted": False,
    "channel": "app",
}


def digest(description: DatasetDescription, row: dict[str, Any]) -> int:
    body = msgspec.json.encode(row)
    return int(field_digests(JsonParser(description).one(body))[0])


def arrow_digest(description: DatasetDescription, **columns: pa.Array) -> int:
    parsed = ArrowParser(description).table(pa.table(columns))
    return int(field_digests(parsed.all_or_raise())[0])


def in_arrow(row: dict[str, Any], **other: pa.Array) -> dict[str, pa.Array]:
    """The row in the types Arrow would choose, but for these."""
    return {**{name: pa.array([value]) for name, value in row.items()}, **other}


def test_the_id_is_no_part_of_the_digest() -> None:
    assert digest(WALLET, ROW) == digest(WALLET, {**ROW, "id": "p2"})


@pytest.mark.parametrize(
    "change",
    [
        {"when": "2018-08-01T10:00:00.000001Z"},
        {"payer": "Anna"},
        {"shop": "kiosk "},
        {"payer": "kiosk", "shop": "anna"},
        {"value": 5.000000000000001},
        {"value": 0},
        {"balance": 2.5},
        {"balance": None},
        {"balance": 0},
        {"items": 4},
        {"items": None},
        {"balance": 3, "items": None},
        {"rooted": True},
        {"channel": "web"},
        {"channel": None},
    ],
)
def test_any_change_of_any_field_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest(WALLET, ROW) != digest(WALLET, {**ROW, **change})


def test_ways_to_write_the_same_row_have_the_same_digest() -> None:
    same = [
        {"when": "2018-08-01T12:00:00+02:00"},
        {"when": "2018-08-01t10:00:00.000000z"},
        {"value": 5, "unknown": 1},
    ]
    assert {digest(WALLET, {**ROW, **change}) for change in same} == {digest(WALLET, ROW)}
    absent = {name: value for name, value in ROW.items() if name not in ("items", "channel")}
    assert digest(WALLET, absent) == digest(WALLET, {**ROW, "items": None, "channel": None})


def test_no_rows_have_no_digests() -> None:
    nothing = JsonParser(WALLET).many(b"[]").transactions
    assert field_digests(nothing).tolist() == []


def test_a_row_has_its_digest_wherever_it_stands_in_a_batch() -> None:
    rows = [{**ROW, "id": f"p{at}", "value": at % 3} for at in range(9)]
    together = field_digests(JsonParser(WALLET).many(msgspec.json.encode(rows)).transactions)
    assert together.tolist() == [digest(WALLET, row) for row in rows]


rows = st.fixed_dictionaries(
    {
        "id": st.just("p1"),
        "when": st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
        "payer": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
        "shop": st.just("kiosk"),
        "value": st.floats(0, allow_infinity=False, allow_nan=False),
        "balance": st.none() | st.floats(allow_infinity=False, allow_nan=False),
        "items": st.none() | st.integers(-(2**53), 2**53),
        "rooted": st.booleans(),
        "channel": st.sampled_from([None, "app", "web"]),
    }
)


@given(rows)
def test_a_row_has_the_same_digest_as_json_and_as_arrow(row: dict[str, Any]) -> None:
    columns = in_arrow(row, when=pa.array([row["when"]], pa.timestamp("us", "UTC")))
    if row["channel"] is not None:
        columns["channel"] = columns["channel"].dictionary_encode()
    assert arrow_digest(WALLET, **columns) == digest(WALLET, row)
    given_columns = {n: c for n, c in columns.items() if row[n] is not None}
    assert arrow_digest(WALLET, **given_columns) == digest(WALLET, row)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_every_zero_is_the_same(zero: float) -> None:
    row = {**ROW, "value": zero, "balance": zero}
    assert digest(WALLET, row) == digest(WALLET, {**ROW, "value": 0, "balance": 0})
    columns = in_arrow(row, when=pa.array([datetime(2018, 8, 1, 10)]), balance=pa.array([-0.0]))
    assert arrow_digest(WALLET, **columns) == digest(WALLET, row)


@given(st.integers(-(10**18), 10**18))
def test_a_time_of_any_precision_is_rounded_to_the_same_microsecond(nanoseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=nanoseconds // 10**9)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z"
    times = [pa.array([nanoseconds], pa.timestamp("ns")), pa.array([text])]
    expected = digest(WALLET, {**ROW, "when": text})
    for column in times:
        assert arrow_digest(WALLET, **in_arrow(ROW, when=column)) == expected


@pytest.mark.parametrize("part", [0, 1, 499, 500, 501, 999, 1_499, 1_500, 2_500, 999_999_500])
@pytest.mark.parametrize("second", ["1969-12-31T23:59:58", "2018-08-01T10:00:00"])
def test_half_a_microsecond_counts_as_one_before_1970_and_after(part: int, second: str) -> None:
    text = f"{second}.{part:09}Z"
    whole = datetime.fromisoformat(f"{second}+00:00") - datetime(1970, 1, 1, tzinfo=UTC)
    stamp = whole // timedelta(seconds=1) * 10**9 + part
    column = pa.array([stamp], pa.timestamp("ns", "UTC"))
    parsed = ArrowParser(WALLET).table(pa.table(in_arrow(ROW, when=column))).all_or_raise()
    read = JsonParser(WALLET).one(msgspec.json.encode({**ROW, "when": text}))
    assert parsed.times is not None
    assert read.times is not None
    assert parsed.times.tolist() == read.times.tolist() == [(stamp + 500) // 1_000]


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=6))
def test_a_decimal_is_the_number_that_its_digits_are_in_json(amount: Decimal) -> None:
    expected = digest(WALLET, {**ROW, "value": float(amount)})
    columns = in_arrow(ROW, value=pa.array([amount], pa.decimal128(30, 6)))
    assert arrow_digest(WALLET, **{**columns, "when": pa.array([ROW["when"]])}) == expected


def test_ids_that_are_numbers_are_the_text_of_their_digits() -> None:
    row = {
        "transaction_id": "1",
        "timestamp": "2018-08-01T10:00:00Z",
        "customer_id": "42",
        "terminal_id": "7",
        "amount": 57.16,
    }
    columns = in_arrow({**row, "customer_id": 42, "terminal_id": 7})
    assert arrow_digest(PAYMENTS, **columns) == digest(PAYMENTS, row)
