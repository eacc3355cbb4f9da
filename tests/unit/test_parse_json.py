"""JSON is read fast when it is plain and slowly when it is odd, and nobody can tell which."""

import json
import math
from calendar import timegm
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dataset import load_description, parse_description
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.fields import MAX_STRING, field_rules
from sentinel.parse_json import JsonParser
from sentinel.transactions import Transactions

PAYMENTS = JsonParser(load_description("transactions"))
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
  rooted: {type: boolean, meaning: m}
  channel: {type: category, meaning: m, values: [web, app, 1e400], optional: true}
  größe: {type: number, meaning: m, optional: true}
  fraud: {type: label, meaning: m}
features: [class, items, rooted, channel, größe]
""",
    "wallet",
)
"""Every type, optional fields, and names that are no identifiers."""
WALLETS = JsonParser(WALLET)
RULES = field_rules(WALLET)
GOOD = {"tx-id": "t", "when": "2018-08-01T10:00:00Z", "class": 5, "rooted": True}
NOON = "2018-08-01T12:00:00Z"


def payment(
    amount: str = "5", extra: str = "", timestamp: str = f'"{NOON}"', transaction_id: str = '"t1"'
) -> bytes:
    """A transaction whose fields are given as JSON text, whatever they are."""
    ids = f'"transaction_id":{transaction_id},"customer_id":"42","terminal_id":"7"'
    more = f",{extra}" if extra else ""
    return f'{{{ids},"timestamp":{timestamp},"amount":{amount}{more}}}'.encode()


def refused(body: bytes, parser: JsonParser = PAYMENTS) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidTransactions) as error:
        parser.one(body)
    return error.value.errors


def micros(*moment: int) -> int:
    """Year, month, day, hour, minute, second in UTC as microseconds since 1970."""
    return timegm((*moment, 0, 0, 0)[:6]) * 1_000_000


def test_a_transaction_becomes_one_row_of_typed_columns() -> None:
    row = PAYMENTS.one(payment("57.16"))
    assert row.ids.to_pylist() == ["t1"]
    assert row.times == [micros(2018, 8, 1, 12)]
    assert list(row.entities) == ["customer_id", "terminal_id"]
    assert [keys.to_pylist() for keys in row.entities.values()] == [["42"], ["7"]]
    assert row.numbers.tolist() == [[57.16]]


TRICKY = [None, True, 0, -1, 5.5, 5.0, 100, 10**400, "", "app", "shop", NOON, NOON[:-1], [], {}]
ACCEPTED: dict[str, list[object]] = {
    "tx-id": ["app", "shop", NOON, NOON[:-1]],
    "when": [NOON],
    "class": [0, 5.5, 5.0, 100],
    "items": [None, 0, -1, 5.0],
    "rooted": [True],
    "channel": [None, "app"],
    "größe": [None, 0, -1, 5.5, 5.0, 100],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_each_type_takes_its_own_values_and_no_others(name: str) -> None:
    for value in TRICKY:
        body = json.dumps({**GOOD, name: value}).encode()
        if repr(value) in map(repr, ACCEPTED[name]):
            assert len(WALLETS.one(body)) == 1
        else:
            assert [error.field for error in refused(body, WALLETS)] == [name]
    huge = json.dumps({**GOOD, "channel": "app"}).encode().replace(b'"app"', b"1e400")
    assert [error.field for error in refused(huge, WALLETS)] == ["channel"], "no string"


def test_an_absent_optional_field_is_nan_as_null_is() -> None:
    for missing in (GOOD, {**GOOD, "items": None, "channel": None, "größe": None}):
        numbers = WALLETS.one(json.dumps(missing).encode()).numbers
        assert str(numbers.tolist()) == "[[5.0, nan, 1.0, nan, nan]]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("null", None),
        *((text, text) for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400")),
        *(("-0.01", -0.01), ('"5"', "5"), ("true", True), ('{"a":[5]}', '{"a": [5]}')),
        *((sign + "9" * 5_000, (sign + "9" * 100)[:100] + "…") for sign in ("", "-")),
        ("1" + "0" * 400, "1" + "0" * 99 + "…"),
        ('"\\ud800"', "?"),
    ],
)
def test_an_amount_that_is_no_finite_number_of_0_or_more_is_shown_as_it_came(
    text: str, shown: object
) -> None:
    error = FieldError(0, "amount", shown, "a finite number of 0 or more")
    assert refused(payment(text)) == (error,)
    assert PAYMENTS.many(b"[" + payment(text) + b"]").errors == (error,)


FINITE = "0 -0 5E0 0.1 1e-400 9007199254740993 18446744073709551617 1.7976931348623157e308"


@pytest.mark.parametrize("text", [*FINITE.split(), "1" + "0" * 308, "0." + "1" * 5_000])
def test_any_finite_amount_of_0_or_more_is_the_nearest_float64(text: str) -> None:
    for body in (payment(text), payment(text, '"note":1'), payment(text, '"note":"\\n"')):
        assert PAYMENTS.one(body).numbers.tolist() == [[float(text)]]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2018-08-01t10:00:00z", micros(2018, 8, 1, 10)),
        ("2018-08-01T10:00:00+05:30", micros(2018, 8, 1, 4, 30)),
        ("2018-08-01T10:00:00.5-01:00", micros(2018, 8, 1, 11) + 500_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T23:59:00+23:59", -62_135_596_800_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_a_time_with_its_offset_is_that_moment_in_utc(text: str, moment: int) -> None:
    assert PAYMENTS.one(payment(timestamp=json.dumps(text))).times == [moment]


NO_TIMES = """2018-08-01T10:00:00|2018-08-01|1533117600||2018-08-01T10:00Z|2018-08-01T10:00:60Z|
2016-12-31T23:59:60Z|2018-08-01T24:00:00Z|2018-08-01T10:00:00+24:00|2018-02-29T10:00:00Z|
0000-01-01T00:00:00Z|10000-01-01T00:00:00Z|0001-01-01T00:00:00+23:59|9999-12-31T23:59:59-00:01|
9999-12-31T23:59:59.9999999Z| 2018-08-01T10:00:00Z"""


@pytest.mark.parametrize("text", NO_TIMES.replace("\n", "").split("|"))
def test_a_time_without_an_offset_or_outside_the_calendar_is_refused(text: str) -> None:
    for extra in ("", '"note":"\\n"'):
        (error,) = refused(payment(timestamp=json.dumps(text), extra=extra))
        assert (error.field, error.value) == ("timestamp", text)
    assert "with its offset" in error.expected


def test_an_id_has_1_to_256_characters_whatever_their_bytes() -> None:
    for text in ("x", "é" * MAX_STRING, "🂡" * MAX_STRING, "\0", "x\u2028y"):
        for ascii_only in (False, True):
            body = payment(transaction_id=json.dumps(text, ensure_ascii=ascii_only))
            assert PAYMENTS.one(body).ids.to_pylist() == [text]
    for text in ("", "x" * (MAX_STRING + 1), "🂡" * (MAX_STRING + 1)):
        (error,) = refused(payment(transaction_id=json.dumps(text)))
        assert error.expected == "a string of 1 to 256 characters"
        assert len(error.value) <= 101


def test_all_bad_fields_of_a_row_are_reported_in_the_order_of_the_description() -> None:
    errors = refused(b'{"amount":-1,"customer_id":7,"timestamp":null,"transaction_id":"t"}')
    assert [e.field for e in errors] == ["timestamp", "customer_id", "terminal_id", "amount"]
    assert [e.value for e in errors] == [None, 7, None, -1]
    assert errors[2].expected.endswith("; the field is missing")
    assert not errors[0].expected.endswith("; the field is missing"), "null is not absence"


@pytest.mark.parametrize(
    "extra",
    [
        '"note":[{"a":1,"a":2}]',
        '"note":1e400',
        *('"note":' + "9" * digits for digits in (400, 5_000)),
        '"note":"\\ud800"',
        '"note":1,"note":2',
        '"AMOUNT":-1',
        '"brackets inside strings":' + json.dumps("[{" * 100 + '\\"' + "[" * 50),
    ],
)
def test_unknown_fields_are_ignored_whatever_they_hold(extra: str) -> None:
    assert PAYMENTS.one(payment(extra=extra)).numbers.tolist() == [[5.0]]


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ('"amount":6', 6),
        ('"\\u0061mount":6', 6),
        ('"note":"x","amount":null', None),
        ('"amount":6,"note":"\\u0022\\u0022"', 6),  # written back, each is a quote more
    ],
)
def test_a_field_given_twice_is_refused_however_it_is_written(extra: str, shown: object) -> None:
    error = FieldError(0, "amount", shown, "the field once; it is given twice")
    assert refused(payment(extra=extra)) == (error,)
    mixed = PAYMENTS.many(b"[" + payment() + b"," + payment(extra=extra) + b"]")
    assert ([e.index for e in mixed.errors], mixed.rows.tolist()) == ([1], [0])


def test_absent_optional_fields_do_not_hide_a_field_given_twice() -> None:
    # Each of these has just as many quotes as an object that has every field once.
    full = written({**GOOD, "items": 1, "größe": 1, "channel": "app"}, plainly=True)
    for extra in (b'"class":2,"class":3', b'"channel":null,"class":3'):
        body = full.replace(b'"channel": "app"', extra)
        assert [e.field for e in refused(body, WALLETS)] == ["class"]
        both = WALLETS.many(b"[" + full + b"," + body + b"]")
        assert [(e.index, e.field) for e in both.errors] == [(1, "class")]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n", b"{", b"[" * 100_000, b'{"a":' * 100_000),
        b"\xef\xbb\xbf" + payment(),
        *(payment() + trailing for trailing in (b"x", b"\0", payment())),
        *(payment()[:-1], payment('"x"')[:-1], payment().replace(b'"', b"'")),
        *map(payment, ["+5", "05", ".5", "5.", "nan", "True", "0x5"]),
        payment(extra='"note":"\n"'),
        *(payment().replace(b"42", bad) for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf")),
        payment(extra='"note":"?"').replace(b"?", b"\xff"),
        payment().decode().encode("utf-16"),
        payment("[" * 32 + "]" * 32),
        *(payment(extra='"note":' + "[" * n + "]" * n) for n in (32, 100_000)),
        payment(extra='"note":' + '{"a":' * 32 + "1" + "}" * 32),
    ],
)
def test_bytes_that_are_not_json_or_too_deep_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedInput, match=r"not JSON: |not UTF-8 at byte|nested more"):
        PAYMENTS.one(body)
    with pytest.raises(MalformedInput):
        PAYMENTS.many(b"[" + payment() + b"," + body + b"]")


def test_a_malformed_body_is_not_blamed_on_the_field_before_the_mistake() -> None:
    with pytest.raises(MalformedInput, match="not JSON: Expecting ',' delimiter: line 1 column"):
        PAYMENTS.one(payment('"x"')[:-1])


def test_the_list_around_a_batch_counts_as_one_level_of_nesting() -> None:
    deep, deeper = (payment(extra='"n":' + "[" * n + "]" * n) for n in (30, 31))
    assert PAYMENTS.many(b"[" + deep + b"]").errors == ()
    assert len(PAYMENTS.one(deeper)) == 1
    with pytest.raises(MalformedInput, match="nested more than 32 deep"):
        PAYMENTS.many(b"[" + deeper + b"]")


@pytest.mark.parametrize(
    ("body", "shown"),
    [(b"[]", "[]"), (b"[{}]", "[{}]"), (b"null", None), (b"NaN", "NaN"), (b"1e400", "1e400")],
)
def test_json_that_is_no_object_is_no_transaction(body: bytes, shown: object) -> None:
    (error,) = refused(body)
    assert (error.field, error.value) == ("", shown)
    assert error.expected.startswith("an object with the fields transaction_id, timestamp")


@pytest.mark.parametrize("body", [payment(), b"{}", b"null", b"5", b'"[]"', b"NaN"])
def test_json_that_is_no_list_is_no_batch(body: bytes) -> None:
    with pytest.raises(InvalidTransactions, match="expected a list of transactions"):
        PAYMENTS.many(body)


def test_a_batch_keeps_its_good_rows_and_counts_input_rows() -> None:
    rows = [payment("1"), payment("-2"), b"7", payment("3"), payment("null"), payment("-1")]
    for extra, shown in ([], []), ([payment("NaN")], [(6, "NaN")]):
        parsed = PAYMENTS.many(b"[" + b", ".join(rows + extra) + b"]")
        assert (parsed.count, parsed.rows.tolist()) == (6 + len(extra), [0, 3])
        assert parsed.transactions.numbers.tolist() == [[1.0], [3.0]]
        errors = [(error.index, error.value) for error in parsed.errors]
        assert errors == [(1, -2), (2, 7), (4, None), (5, -1), *shown]
    assert PAYMENTS.many(b" [ ] ").transactions.numbers.shape == (0, 1), "a batch may be empty"


values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(TRICKY) | st.floats() | st.text(st.characters(codec=None), max_size=4),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=2), v, max_size=3),
    max_leaves=4,
)
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)).map(lambda t: f"{t:%FT%T}Z")
good = {name: st.sampled_from(accepted) for name, accepted in ACCEPTED.items()}
good |= {"class": st.floats(0, allow_infinity=False), "when": moments}
optional = {name: good.pop(name) for name, rule in RULES.items() if rule.spec.optional}


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A good row with a few fields replaced, removed or added, in any order."""
    row = draw(st.fixed_dictionaries(good, optional=optional))
    row |= draw(st.dictionaries(st.sampled_from(list(RULES)), values, max_size=2))
    row |= draw(st.dictionaries(st.text(max_size=3), values, max_size=2))
    for name in draw(st.lists(st.sampled_from(list(RULES)), max_size=1)):
        row.pop(name, None)
    return {name: row[name] for name in draw(st.permutations(list(row)))}


def written(value: object, plainly: bool) -> bytes:
    """As JSON; half a surrogate pair can only be written escaped."""
    try:
        return json.dumps(value, ensure_ascii=not plainly).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def seen(rows: Transactions) -> list[tuple[object, ...]]:
    """Rows of a wallet in a form that can be compared (NaN, too)."""
    columns = zip(rows.ids.to_pylist(), rows.times, rows.numbers, strict=True)
    return [(i, int(t), [repr(x) for x in n.tolist()]) for i, t, n in columns]


@settings(max_examples=120)
@given(rows(), st.booleans())
def test_a_row_is_taken_iff_each_field_is_acceptable_by_itself(
    row: dict[str, Any], plainly: bool
) -> None:
    body = written(row, plainly)
    fits = {n: r.accepts(row[n]) if n in row else r.spec.optional for n, r in RULES.items()}
    if not all(fits.values()):
        bad = [name for name in RULES if not fits[name]]
        assert [error.field for error in refused(body, WALLETS)] == bad
    else:
        moment = timegm(datetime.fromisoformat(row["when"]).timetuple()) * 1_000_000
        values = [row.get(name) for name in WALLET.numbers]
        numbers = [repr(float({None: math.nan, "app": 1}.get(v, v))) for v in values]
        assert seen(WALLETS.one(body)) == [(row["tx-id"], moment, numbers)]


@settings(max_examples=120)
@given(st.lists(rows() | values, max_size=5), st.booleans())
def test_a_batch_holds_what_its_rows_hold_one_by_one(batch: list[object], plainly: bool) -> None:
    parsed = WALLETS.many(written(batch, plainly))
    expected, errors = [], []
    for index, row in enumerate(batch):
        try:
            expected += [(index, *seen(WALLETS.one(written(row, plainly)))[0])]
        except InvalidTransactions as error:
            errors += [(index, e.field, e.value, e.expected) for e in error.errors]
    found = zip(parsed.rows.tolist(), seen(parsed.transactions), strict=True)
    assert [(index, *row) for index, row in found] == expected
    assert [(e.index, e.field, e.value, e.expected) for e in parsed.errors] == errors
    assert {i for i, *_ in expected} ^ {i for i, *_ in errors} == set(range(len(batch)))
    assert parsed.count == len(batch)


known = [*GOOD.items(), ("items", 1), ("items", None), ("channel", "app"), ("channel", None)]
pairs = st.sampled_from(known) | st.tuples(st.sampled_from(["note", "x"]), values)


@settings(max_examples=120)
@given(st.lists(st.tuples(pairs, st.booleans(), st.sampled_from(["", " ", "\n\t"]))))
def test_a_repeated_key_is_found_just_where_a_plain_count_finds_it(
    extra: list[tuple[tuple[str, object], bool, str]],
) -> None:
    parts = [f'"{name}":{json.dumps(value)}' for name, value in GOOD.items()]
    for (name, value), escaped, space in extra:
        key = "".join(f"\\u{ord(c):04x}" for c in name) if escaped else name
        text = json.dumps(value, ensure_ascii=escaped)
        parts.append(f'{space}"{key}"{space}:{space}{text}{space}')
    body = ("{" + ",".join(parts) + "}").encode("utf-8", "replace")
    names = [name for name, _ in json.loads(body, object_pairs_hook=list)]
    twice = [name for name in RULES if names.count(name) > 1]
    if twice:
        assert [e.field for e in refused(body, WALLETS)] == twice
    else:
        assert WALLETS.one(body).ids.to_pylist() == ["t"]


edits = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 3), st.binary(max_size=3)))
pieces = st.lists(st.sampled_from([*b'[]{}:,"\\u0e9-+ ']).map(lambda b: bytes([b]))).map(b"".join)


@settings(max_examples=120)
@given(st.binary() | pieces | st.tuples(rows(), edits))
def test_no_bytes_raise_anything_but_the_two_errors(
    case: bytes | tuple[dict[str, Any], list[tuple[int, int, bytes]]],
) -> None:
    body, changes = (case, []) if isinstance(case, bytes) else (written(case[0], True), case[1])
    for at, length, new in changes:
        body = body[:at] + new + body[at + length :]
    for parse in (WALLETS.one, WALLETS.many, lambda b: WALLETS.many(b"[" + b + b"]")):
        try:
            parse(body)
        except (MalformedInput, InvalidTransactions) as error:
            json.dumps(str(error)).encode()
