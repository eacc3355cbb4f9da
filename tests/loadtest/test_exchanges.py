"""What the load test sends is accepted by the real parsers; what comes back is held to it."""

import math
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.exchanges import KINDS, Exchange, Kind, Outcome, exchange
from sentinel.answers import each_json, many_arrow, many_json
from sentinel.bundle import open_bundle
from sentinel.dataset import DatasetDescription, load_description
from sentinel.made_up import CannotMake, random_columns
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.parsing import Parsed
from sentinel.scoring import score_offline

NOON = 1_533_124_800.25
"""A moment of 2018-08-01T12:00:00Z."""


def description_of(fields: dict[str, Any], **roles: Any) -> DatasetDescription:
    return DatasetDescription.model_validate(
        {
            "name": "made-up",
            "summary": "One of many.",
            "id": "id",
            "time": "row_order",
            "label": "fraud",
            "amount": "paid",
            "features": ["paid"],
            **roles,
            "fields": {
                "id": {"type": "string", "meaning": "which"},
                "fraud": {"type": "label", "meaning": "whether"},
                **{name: {"meaning": "something", **spec} for name, spec in fields.items()},
            },
        }
    )


EVERY_TYPE = description_of(
    {
        "when %b": {"type": "timestamp"},
        "paid": {"type": "number", "minimum": 0.005, "maximum": 9.994},
        "card–number": {"type": "string"},
        "chip": {"type": "boolean", "optional": True},
        "kind": {"type": "category", "values": ['a "quoted" one', "b\\c", "Ü", ""]},
        "mood": {"type": "category", "values": ["x"], "optional": True},
        "tries": {"type": "integer", "minimum": 1, "maximum": 3},
        "points": {"type": "integer", "optional": True},
        "huge": {"type": "integer", "minimum": 1e300},
        "nothing": {"type": "integer", "minimum": 0.2, "maximum": 0.8, "optional": True},
        "deep": {"type": "number", "maximum": -1.5, "optional": True},
        "wide": {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
    },
    time="when %b",
    entities=["card–number"],
)

DESCRIPTIONS = {
    "transactions": load_description("transactions"),
    "creditcard": load_description("creditcard"),
    "every type": EVERY_TYPE,
}


def parse(what: Exchange, description: DatasetDescription, body: bytes) -> Parsed:
    """The body as the service reads it."""
    if what.kind == "arrow":
        return ArrowParser(description).stream(body)
    as_json = JsonParser(description)
    if what.kind != "single":
        return as_json.many(body)
    transactions = as_json.one(body)
    return Parsed(transactions, np.arange(1), (), 1)


def assert_accepted(description: DatasetDescription, kind: Kind, bodies: int, rows: int) -> None:
    what = exchange(kind, description, run="r", rows=rows, pool=200, clock=lambda: NOON)
    for _ in range(bodies):
        sent, body = what.make()
        parsed = parse(what, description, body)
        assert parsed.errors == ()
        expected = sent.to_pylist() if isinstance(sent, pa.Array) else sent
        assert parsed.transactions.ids.to_pylist() == ([expected] if kind == "single" else expected)
        times = parsed.transactions.times
        if times is not None:
            assert (np.abs(times / 1e6 - NOON) <= 2).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_row_is_accepted_by_the_real_parsers(name: str, kind: Kind) -> None:
    assert_accepted(DESCRIPTIONS[name], kind, bodies=300 if kind == "single" else 30, rows=50)


bounds = st.floats(-1e9, 1e9) | st.floats(allow_nan=False, allow_infinity=False) | st.none()


@st.composite
def number_fields(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["number", "integer", "boolean", "category"]))
    spec: dict[str, Any] = {"type": kind, "optional": draw(st.booleans())}
    if kind == "category":
        texts = st.text(st.characters(codec="utf-8"), max_size=5)
        spec["values"] = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    if kind in ("number", "integer"):
        low, high = draw(bounds), draw(bounds)
        if low is not None and high is not None and low > high:
            low, high = high, low
        some_whole = low is None or high is None or math.ceil(low) <= math.floor(high)
        if kind == "number" or some_whole:
            spec |= {"minimum": low, "maximum": high}
    return spec


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(
    lambda name: name.isprintable() and not set(name) & set('"\\')
)
own = {"id", "fraud", "paid", "when", "who"}


@st.composite
def descriptions(draw: st.DrawFn) -> DatasetDescription:
    extra = st.dictionaries(names.filter(lambda name: name not in own), number_fields(), max_size=4)
    amount = {"type": "number", "minimum": abs(draw(st.floats(-1e300, 1e300)))}
    fields = {"paid": amount, "who": {"type": "string"}, **draw(extra)}
    time_ = draw(st.sampled_from(["row_order", "when"]))
    if time_ == "when":
        fields["when"] = {"type": "timestamp"}
    return description_of(fields, time=time_, entities=["who"])


@given(descriptions(), st.sampled_from(KINDS))
def test_whatever_the_description_every_row_is_accepted(
    description: DatasetDescription, kind: Kind
) -> None:
    assert_accepted(description, kind, bodies=8, rows=12)


def test_a_field_that_accepts_nothing_is_named() -> None:
    broken = description_of(
        {
            "paid": {"type": "number", "minimum": 0},
            "odd": {"type": "integer", "minimum": 0.2, "maximum": 0.8},
        }
    )
    with pytest.raises(CannotMake, match=r"field 'odd' accepts nothing: .* from 0\.2 to 0\.8"):
        exchange("single", broken, run="r")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_and_clock_make_the_same_bodies_and_another_seed_others(kind: Kind) -> None:
    def bodies(seed: int) -> list[bytes]:
        what = exchange(kind, EVERY_TYPE, run="r", rows=9, seed=seed, pool=90, clock=lambda: NOON)
        return [what.make()[1] for _ in range(20)]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_no_two_transactions_of_a_run_share_an_id() -> None:
    description = DESCRIPTIONS["transactions"]
    seen: list[str] = []
    for kind in KINDS:
        what = exchange(kind, description, run="r", rows=20, pool=40)
        for _ in range(50):
            _, body = what.make()
            seen += parse(what, description, body).transactions.ids.to_pylist()
    assert len(seen) == len(set(seen)) == 50 * 41


def test_amounts_keys_and_missing_values_vary() -> None:
    columns = random_columns(EVERY_TYPE, 1_000, np.random.default_rng(0))
    assert len(set(columns["paid"])) > 500
    assert len(set(columns["card–number"])) > 500
    assert set(columns["tries"]) == {1, 2, 3}
    assert set(columns["chip"]) == {True, False, None}
    assert 50 < columns["deep"].count(None) < 200


def test_the_text_of_the_time_follows_the_clock() -> None:
    now = [NOON]
    what = exchange("single", DESCRIPTIONS["transactions"], run="r", pool=1, clock=lambda: now[0])
    assert b'"timestamp":"2018-08-01T12:00:00.250000Z"' in what.make()[1]
    now[0] += 61.5
    assert b'"timestamp":"2018-08-01T12:01:01.750000Z"' in what.make()[1]


@pytest.mark.parametrize(("kind", "least_rows_per_s"), [("single", 50_000), ("json", 100_000)])
@pytest.mark.parametrize("name", ["transactions", "creditcard"])
def test_making_bodies_is_not_what_limits_a_load(
    name: str, kind: Kind, least_rows_per_s: int
) -> None:
    what = exchange(kind, DESCRIPTIONS[name], run="r", rows=1_000)
    count = 5_000 if kind == "single" else 20
    start = time.thread_time()
    for _ in range(count):
        what.make()
    rows = count * (1 if kind == "single" else 1_000)
    assert rows / (time.thread_time() - start) > least_rows_per_s


def answered(uri: str, what: Exchange, body: bytes) -> bytes:
    """What the product answers to this body."""
    opened = open_bundle(uri)
    judge = opened.judge()
    parsed = parse(what, judge.description, body)
    decisions = score_offline(judge, opened.lanes(), parsed.transactions)
    if what.kind == "single":
        return each_json(decisions)[0]
    return (many_arrow if what.kind == "arrow" else many_json)(decisions, parsed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_products_own_answer_is_good_and_one_to_another_body_is_not(
    plain_bundle: str, kind: Kind
) -> None:
    rows = 1 if kind == "single" else 25
    what = exchange(kind, load_description("transactions"), run="r", rows=rows, pool=50)
    (sent, body), (other, _) = what.make(), what.make()
    answer = answered(plain_bundle, what, body)
    assert what.check(sent, answer) == Outcome(None, scored=rows, degraded=0)
    assert what.check(other, answer).problem == "the answer is to another transaction"
    for broken in (b"", b"[]", b"{}", answer[:-20], b"null"):
        assert what.check(sent, broken) == Outcome("the body is no answer")


@pytest.mark.parametrize("kind", ["json", "arrow"])
def test_a_batch_answer_that_lacks_a_row_or_refuses_one_is_not_good(
    plain_bundle: str, kind: Kind
) -> None:
    description = load_description("transactions")
    whole = exchange(kind, description, run="r", rows=4, pool=4)
    less = exchange(kind, description, run="r", rows=3, pool=3)
    sent, body = whole.make()
    short = answered(plain_bundle, whole, less.make()[1])
    assert whole.check(sent, short).problem == "another number of answers than of transactions"
    if kind == "json":
        bad = body.replace(b'"amount":', b'"amount":-', 1)
        refused = answered(plain_bundle, whole, bad)
    else:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        at = table.column_names.index("amount")
        bad_table = table.set_column(at, "amount", pa.array([-1.0, 1.0, 1.0, 1.0]))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, bad_table.schema) as writer:
            writer.write_table(bad_table)
        refused = answered(plain_bundle, whole, sink.getvalue().to_pybytes())
    assert whole.check(sent, refused).problem == "the answer refuses some of the transactions"
