"""Arrow columns of any reasonable type hold what the same rows hold in JSON; lies are refused."""

import json
import math
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dataset import load_description, parse_description
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.fields import printable
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.parsing import Parsed

PAYMENTS = ArrowParser(load_description("transactions"))
WALLET = parse_description(
    """
name: wallet
summary: Payments from a phone wallet
id: tx-id
time: when
label: fraud
amount: class
fields:
  tx-id: {type: string, meaning: m}
  when: {type: timestamp, meaning: m}
  class: {type: number, meaning: what was paid, minimum: 0}
  items: {type: integer, meaning: m, minimum: -9, maximum: 99, optional: true}
  tip: {type: number, meaning: m, optional: true}
  rooted: {type: boolean, meaning: m, optional: true}
  channel: {type: category, meaning: m, values: [app, web], optional: true}
  shop: {type: category, meaning: m, values: [own, other]}
  fraud: {type: label, meaning: m}
features: [class, items, tip, rooted, channel, shop]
""",
    "wallet",
)
WALLETS = ArrowParser(WALLET)
NOON = "2018-08-01T12:00:00Z"
NOON_MICROS = 1_533_124_800_000_000
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the first and the last second that Python's calendar knows."""


def payments(**changes: Any) -> pa.Table:
    """Two payments, with some columns replaced (``None`` drops one)."""
    columns = {"transaction_id": ["a", "b"], "timestamp": [NOON, NOON], "customer_id": ["1", "2"]}
    columns |= {"terminal_id": ["7", "7"], "amount": [1.0, 2.5], **changes}
    return pa.table({name: column for name, column in columns.items() if column is not None})


def streamed(table: pa.Table, rows_a_batch: int = 1_000, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    settings_ = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=settings_) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    return bytes(sink.getvalue())


def read(**changes: Any) -> Parsed:
    """The payments with these changes, which a table in memory and a stream must agree on."""
    table = payments(**changes)
    parsed, again = PAYMENTS.table(table), PAYMENTS.stream(streamed(table, rows_a_batch=1))
    assert contents(parsed) == contents(again)
    return parsed


def contents(parsed: Parsed) -> tuple[object, ...]:
    """All of it in a form that can be compared (NaN, too)."""
    rows = parsed.transactions
    entities = {name: keys.to_pylist() for name, keys in rows.entities.items()}
    numbers = [[repr(x) for x in row] for row in rows.numbers.tolist()]
    good = parsed.rows.tolist()
    ids = rows.ids.to_pylist()
    return ids, times(parsed), entities, numbers, good, parsed.errors, parsed.count


def times(parsed: Parsed) -> list[int] | None:
    found = parsed.transactions.times
    return None if found is None else found.tolist()


def column_error(**changes: Any) -> FieldError:
    with pytest.raises(InvalidTransactions) as error:
        read(**changes)
    (only,) = error.value.errors
    assert only.index is None, "the column is at fault, not a row"
    return only


def in_dictionary(values: pa.Array, indices: list[int | None]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), values)


VIEWS = pa.array(["a", "b"], pa.string_view())


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (VIEWS, ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()).dictionary_encode(), ["a", "b"]),
        (in_dictionary(VIEWS, [1, 0]), ["b", "a"]),
        (in_dictionary(pa.array([7, 8]), [1, 1]), ["8", "8"]),
        (pa.array([-1, 127], pa.int8()), ["-1", "127"]),
        (pa.array([0, 2**64 - 1], pa.uint64()), ["0", "18446744073709551615"]),
        (pa.array(["x", "é" * 256]), ["x", "é" * 256]),
        (pa.array(["?", "a", "b", "?"]).slice(1, 2), ["a", "b"]),
        (pa.chunked_array([["a"], [], ["b"]]), ["a", "b"]),
    ],
)
def test_ids_and_keys_may_be_strings_of_any_kind_or_integers(column: Any, ids: list[str]) -> None:
    parsed = read(transaction_id=column, customer_id=column)
    assert parsed.transactions.ids.to_pylist() == ids
    assert parsed.transactions.entities["customer_id"].to_pylist() == ids
    assert parsed.transactions.ids.type == pa.string()


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([None, "b"]), None),
        (pa.array(["", "b"]), ""),
        (pa.array(["x" * 257, "b"]), "x" * 100 + "…"),
        (in_dictionary(pa.array(["b"]), [None, 0]), None),
        (in_dictionary(pa.array(["b", None]), [1, 0]), None),
        (in_dictionary(VIEWS, [None, 1]), None),
    ],
)
def test_a_missing_or_overlong_key_refuses_its_row_alone(column: Any, shown: object) -> None:
    parsed = read(terminal_id=column)
    expected = "a string of 1 to 256 characters"
    assert parsed.errors == (FieldError(0, "terminal_id", shown, expected),)
    assert (parsed.rows.tolist(), parsed.count) == ([1], 2)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+05:30", "Europe/Berlin", "Mars/Phobos"])
def test_a_timestamp_of_any_unit_is_a_moment_in_utc_whatever_its_zone(
    unit: str, zone: str | None
) -> None:
    column = pa.array([datetime(2018, 8, 1, 12), datetime(1969, 12, 31, 23)], pa.timestamp(unit))
    column = column.cast(pa.int64()).cast(pa.timestamp(unit, zone))
    for stamps in (column, column.dictionary_encode()):
        assert times(read(timestamp=stamps)) == [NOON_MICROS, -3_600_000_000]
    one = read(timestamp=pa.array([None, NOON_MICROS]).cast(pa.timestamp("us", zone)))
    assert [(e.index, e.field, e.value) for e in one.errors] == [(0, "timestamp", None)]


def test_nanoseconds_are_rounded_half_up_as_in_json() -> None:
    assert times(read(timestamp=pa.array([1_500, -501], pa.timestamp("ns")))) == [2, -1]


@pytest.mark.parametrize("zone", [None, "UTC", "+23:59", "Mars/Phobos"])
@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_a_timestamp_outside_the_calendar_refuses_its_row_alone(
    unit: str, per_second: int, zone: str | None
) -> None:
    first, last = EARLIEST * per_second, (LATEST + 1) * per_second - 1
    for bad in (first - 1, last + 1, -(2**63), 2**63 - 1):
        parsed = read(timestamp=pa.array([first, bad]).cast(pa.timestamp(unit, zone)))
        assert parsed.rows.tolist() == [0]
        assert [(e.index, e.field) for e in parsed.errors] == [(1, "timestamp")]
        json.dumps(parsed.errors[0].value)
    assert not read(timestamp=pa.array([first, last]).cast(pa.timestamp(unit, zone))).errors


@pytest.mark.parametrize(
    "text", [None, "", "noon", "2018-08-01T12:00:00", "0001-01-01T00:00:00+00:01", NOON + "Z"]
)
def test_a_time_written_out_needs_its_offset_as_in_json(text: str | None) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        parsed = read(timestamp=pa.array([text, "2018-08-01T14:00:00+02:00"], kind))
        assert [(e.index, e.field, e.value) for e in parsed.errors] == [(0, "timestamp", text)]
        assert times(parsed) == [NOON_MICROS]


@pytest.mark.parametrize(
    ("column", "numbers"),
    [
        (pa.array(np.array([0, 65504], np.float16)), [0, 65504]),
        (pa.array([0.1, 2], pa.float32()), [float(np.float32(0.1)), 2]),
        (pa.array([2**53 + 1, 2**64 - 1], pa.uint64()), [2.0**53, 2.0**64]),
        (pa.array([Decimal("1.10"), Decimal(2)], pa.decimal32(9, 2)), [1.1, 2]),
        (pa.array([Decimal("1.10"), Decimal(2)], pa.decimal128(38, 2)), [1.1, 2]),
        (pa.array([Decimal(10) ** 75, Decimal(2)], pa.decimal256(76, 0)), [1e75, 2]),
        (pa.array([Decimal(1000), Decimal(2000)], pa.decimal128(5, -3)), [1000, 2000]),
        (in_dictionary(pa.array([0.5, 1.5]), [1, 0]), [1.5, 0.5]),
    ],
)
def test_numbers_may_have_any_width(column: Any, numbers: list[float]) -> None:
    assert read(amount=column).transactions.numbers.tolist() == [[n] for n in numbers]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([None, 1.0]), None),
        (pa.array([math.nan, 1.0], from_pandas=False), "NaN"),
        (pa.array(np.array([math.nan, 1], np.float16)), "NaN"),
        (pa.array([math.inf, 1.0]), "Infinity"),
        (pa.array([-1, 1]), -1.0),
        (pa.array([Decimal("-0.01"), Decimal(1)]), -0.01),
        (in_dictionary(pa.array([1.0, None]), [1, 0]), None),
    ],
)
def test_an_amount_that_is_null_or_out_of_range_refuses_its_row_alone(
    column: Any, shown: object
) -> None:
    parsed = read(amount=column)
    assert parsed.errors == (FieldError(0, "amount", shown, "a finite number of 0 or more"),)
    assert parsed.transactions.numbers.tolist() == [[1.0]]


LISTS, RECORDS = pa.array([["a"], ["b"]]), pa.array([{"a": 1}, {"a": 2}])
MISFITS: dict[str, list[pa.Array]] = {
    "transaction_id": [
        pa.array([1.0, 2.0]),
        LISTS,
        RECORDS,
        in_dictionary(LISTS, [0, 1]),
        in_dictionary(RECORDS, [0, 1]),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["a", "b"])),
        pa.array([{f"member{i}": 1 for i in range(50)}] * 2),
    ],
    "timestamp": [
        pa.array([1, 2]),
        pa.array([1, 2], pa.date32()),
        pa.array([1, 2], pa.time32("s")),
    ],
    "amount": [pa.array(["1", "2"]), pa.array([True, False]), pa.array([1, 2], pa.duration("s"))],
}


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name in MISFITS for column in MISFITS[name]]
)
def test_a_column_of_the_wrong_type_is_refused_as_a_whole(name: str, column: pa.Array) -> None:
    error = column_error(**{name: column})
    assert (error.field, error.value) == (name, printable(str(column.type)))
    assert error.expected.startswith("a column whose values are each a")


def test_a_missing_column_and_one_given_twice_are_named() -> None:
    assert column_error(amount=None).expected.endswith("; the field is missing")
    twice = payments().append_column("amount", pa.array([1, 2]))
    with pytest.raises(InvalidTransactions, match="expected one column of that name; there are 2"):
        PAYMENTS.table(twice)
    with pytest.raises(InvalidTransactions) as error:
        PAYMENTS.stream(streamed(pa.table({"amount": [1]})))
    assert [e.field for e in error.value.errors] == payments().column_names[:-1]


def test_a_column_without_a_type_holds_nulls_and_nothing_else() -> None:
    parsed = read(amount=pa.nulls(2), timestamp=pa.nulls(2))
    assert [(e.index, e.field, e.value) for e in parsed.errors] == [
        (row, field, None) for row in (0, 1) for field in ("timestamp", "amount")
    ]
    nothing = PAYMENTS.table(pa.table({name: pa.nulls(0) for name in payments().column_names}))
    assert contents(nothing)[:2] == ([], [])


def test_no_rows_and_no_batches_are_an_empty_answer_not_an_error() -> None:
    for table in (payments().slice(0, 0), payments().schema.empty_table()):
        parsed = PAYMENTS.stream(streamed(table))
        assert (len(parsed.transactions), parsed.errors, parsed.count) == (0, (), 0)
        assert parsed.transactions.numbers.shape == (0, 1)


def test_extra_columns_are_ignored_whatever_their_type_and_name() -> None:
    odd = [
        LISTS,
        RECORDS,
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), LISTS]),
        pa.array(["1", "2"]).cast(pa.json_()),
        pa.nulls(2),
        in_dictionary(RECORDS, [0, 1]),
    ]
    names = ["", "x", "x", "Amount", "error", "is_fraud", "TX_AMOUNT"]
    table = pa.table([*odd, *payments().columns], [*names, *payments().column_names])
    assert contents(PAYMENTS.stream(streamed(table))) == contents(PAYMENTS.table(payments()))


# --- the same rows in JSON ----------------------------------------------------------------------

KINDS = {
    "tx-id": [pa.string(), pa.large_string(), pa.string_view()],
    "when": [pa.string(), pa.large_string()],
    "class": [pa.float64()],
    "items": [pa.float64(), pa.int64(), pa.decimal128(20, 2)],
    "tip": [pa.float64()],
    "rooted": [pa.bool_()],
    "channel": [pa.string(), pa.string_view()],
    "shop": [pa.string(), pa.large_string()],
}
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)).map(lambda t: f"{t:%FT%T.%f}Z")
wallet_rows = st.fixed_dictionaries(
    {
        "tx-id": st.text(min_size=1, max_size=3) | st.sampled_from([None, "", "x" * 257]),
        "when": moments | st.sampled_from([None, "noon", NOON[:-1]]),
        "class": st.floats(0) | st.sampled_from([None, -0.0, -1.0, math.nan, math.inf, 1e-320]),
        "items": st.none() | st.integers(-10, 100),
        "tip": st.sampled_from([None, 0.1, -1, math.nan, None, 0.1, -math.inf]),
        "rooted": st.none() | st.booleans(),
        "channel": st.sampled_from([None, "app", "web", "shop", ""]),
        "shop": st.sampled_from(["own", "other", "own", "other", None, "app"]),
    }
)


@given(st.lists(wallet_rows, max_size=6), st.data())
def test_rows_are_the_same_in_arrow_and_in_json(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    columns = {}
    for name, kinds in KINDS.items():
        kind = data.draw(st.sampled_from(kinds))
        column = pa.array([row[name] for row in rows], kind, from_pandas=False)
        if name in ("tx-id", "channel", "shop") and data.draw(st.booleans()):
            column = column.cast(pa.string()).dictionary_encode()
        if name in ("items", "tip", "rooted", "channel") and column.null_count == len(rows):
            continue  # an optional column may be absent as well
        columns[name] = column
    table = pa.table({name: columns[name] for name in data.draw(st.permutations(list(columns)))})
    parsed = WALLETS.stream(streamed(table, rows_a_batch=data.draw(st.integers(1, 4))))
    assert contents(parsed) == contents(JsonParser(WALLET).many(json.dumps(rows).encode()))
    second_half = pa.concat_tables([table, table]).slice(len(rows))
    assert contents(parsed) == contents(WALLETS.table(second_half))


# --- what is not Arrow --------------------------------------------------------------------------

STREAMS = [
    streamed(payments()),
    streamed(payments(timestamp=pa.array([1, 2], pa.timestamp("us", "UTC"))), compression="lz4"),
    streamed(payments(customer_id=pa.array(["1", "2"]).dictionary_encode()), compression="zstd"),
    streamed(payments(x=LISTS, y=pa.array(["a" * 20, None], pa.string_view()), z=RECORDS)),
]


def test_a_file_or_other_bytes_are_no_stream() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, payments().schema) as writer:
        writer.write_table(payments())
    for body in (bytes(sink.getvalue()), b"", b"[]", b"ARROW1", b"\xff" * 64, b"\0" * 64):
        with pytest.raises(MalformedInput, match="not an Arrow IPC stream: ") as error:
            PAYMENTS.stream(body)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", STREAMS)
def test_a_stream_cut_short_is_malformed_unless_it_ends_between_its_messages(body: bytes) -> None:
    counts = set()
    for end in range(len(body)):
        with suppress(MalformedInput):
            counts.add(PAYMENTS.stream(body[:end]).count)
    assert counts <= {0, 2}, "never half a batch"


def test_text_that_is_not_utf8_is_malformed_even_in_a_column_that_is_ignored() -> None:
    for changes in (
        {"transaction_id": ["wwww", "b"]},
        {"x": ["wwww", "b"]},
        {"customer_id": pa.array(["wwww", "b"], pa.string_view())},
        {"terminal_id": pa.array(["wwww", "b"]).dictionary_encode()},
        {"wwww": [1, 2]},
    ):
        body = streamed(payments(**changes))
        with pytest.raises(MalformedInput):
            PAYMENTS.stream(body.replace(b"wwww", b"w\xffww"))


edits = st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4)


@settings(max_examples=400)
@given(st.sampled_from(STREAMS), edits)
def test_damaged_streams_raise_nothing_but_the_two_errors(
    body: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(body)
    for at, byte in changes:
        damaged[at % len(body)] = byte
    try:
        parsed = PAYMENTS.stream(bytes(damaged))
    except (MalformedInput, InvalidTransactions):
        return
    contents(parsed)
