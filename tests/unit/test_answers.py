"""A caller reads the same answer in JSON and in Arrow, and what is missing is null in both."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.answers import answers, columns, each_json, many_arrow, many_json
from sentinel.dataset import Policy, load_description
from sentinel.decision import APPROVE, BLOCK, REVIEW, reasons
from sentinel.parse_json import JsonParser
from sentinel.parsing import Parsed
from sentinel.scoring import Decisions, join

POLICY = Policy(novelty_review_below=0.01, fallback="block")
PAYMENTS = JsonParser(load_description("transactions"))
FIELDS = [
    "transaction_id",
    "decision",
    "fraud_probability",
    "anomaly_score",
    "novelty_p",
    "reasons",
    "model_version",
    "degraded",
]


def decided(
    codes: list[int],
    probability: list[float] | None = None,
    novelty: list[float] | None = None,
    ids: list[str] | None = None,
) -> Decisions:
    """Decisions as a judge makes them; a lane without numbers was missing."""
    missing = [np.nan] * len(codes)
    decision = np.array(codes, np.int8)
    fraud, novelty_p = (np.array(lane or missing, np.float64) for lane in (probability, novelty))
    return Decisions(
        ids=pa.array(ids or [f"t{i}" for i in range(len(codes))], pa.string()),
        decision=np.array(codes, np.int8),
        fraud_probability=np.array(probability or missing, np.float64),
        anomaly_score=1 - np.array(novelty or missing, np.float64),
        novelty_p=np.array(novelty or missing, np.float64),
        reasons=reasons(POLICY, decision, fraud, novelty_p),
        model_version=np.full(len(codes), "0f3a", np.object_),
        degraded=np.full(len(codes), probability is None or novelty is None),
    )


def payment(number: int, **changes: Any) -> dict[str, Any]:
    row = {"transaction_id": f"t{number}", "timestamp": "2018-08-01T10:00:00Z", "amount": 5}
    return row | {"customer_id": "1", "terminal_id": "2"} | changes


def parsed(*rows: Any) -> Parsed:
    return PAYMENTS.many(json.dumps(rows).encode())


def strict_json(body: bytes) -> Any:
    """As a caller reads it who accepts nothing but JSON."""

    def no_json(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(body.decode("utf-8"), parse_constant=no_json)


def arrow_rows(body: bytes) -> list[dict[str, Any]]:
    table = pa.ipc.open_stream(body).read_all()
    table.validate(full=True)
    return table.to_pylist()


THREE = decided([APPROVE, REVIEW, BLOCK], [0.001, 0.25, 0.999], [0.5, 0.0004, 0.3])


def test_one_answer_holds_the_promised_fields_in_order() -> None:
    answer = strict_json(each_json(decided([REVIEW], [0.25], [0.5]))[0])
    assert list(answer) == FIELDS
    assert answer == {
        "transaction_id": "t0",
        "decision": "review",
        "fraud_probability": 0.25,
        "anomaly_score": 0.5,
        "novelty_p": 0.5,
        "reasons": ["fraud probability 0.25"],
        "model_version": "0f3a",
        "degraded": False,
    }


def test_reasons_are_given_for_review_and_block_and_for_nothing_else() -> None:
    assert THREE.reasons.tolist() == [
        (),
        (
            "fraud probability 0.25",
            "unlike recent legitimate transactions: novelty p-value 0.0004, below 0.01",
        ),
        ("fraud probability 0.999",),
    ]


@pytest.mark.parametrize("novelty", [0.01, 0.010001, 1.0])
def test_a_novelty_that_did_not_reach_the_policy_is_no_reason(novelty: float) -> None:
    assert len(decided([REVIEW], [0.5], [novelty]).reasons.tolist()[0]) == 1
    assert len(decided([REVIEW], [0.5], [0.0099]).reasons.tolist()[0]) == 2


@pytest.mark.parametrize(
    ("decisions", "missing"),
    [
        (decided([BLOCK], None, [0.5]), {"fraud_probability"}),
        (decided([REVIEW], [0.5], None), {"anomaly_score", "novelty_p"}),
        (decided([BLOCK], None, None), {"fraud_probability", "anomaly_score", "novelty_p"}),
    ],
)
def test_a_degraded_answer_has_null_for_what_is_missing(
    decisions: Decisions, missing: set[str]
) -> None:
    in_json = strict_json(each_json(decisions)[0])
    (in_arrow,) = arrow_rows(many_arrow(decisions, parsed(payment(0))))
    for answer in (in_json, in_arrow):
        assert {name for name in FIELDS if answer[name] is None} == missing
        assert answer["degraded"] is True
        assert answer["reasons"], "even then a caller is told why"


def test_without_a_probability_the_reason_is_the_policys_own_word() -> None:
    ((why, *more),) = decided([BLOCK], None, [0.5]).reasons.tolist()
    assert why == "no fraud probability could be had; the policy says block"
    assert not more


def test_a_batch_in_json_holds_the_good_rows_and_one_error_for_each_bad_one() -> None:
    batch = parsed(payment(0), payment(9, amount=-1, timestamp=None), 5, payment(1), payment(2))
    body = strict_json(many_json(THREE, batch))
    assert list(body) == ["results", "errors"]
    assert [answer["transaction_id"] for answer in body["results"]] == ["t0", "t1", "t2"]
    assert [list(error) for error in body["errors"]] == [
        ["index", "field", "value", "expected"]
    ] * 2
    assert [(e["index"], e["field"], e["value"]) for e in body["errors"]] == [
        (1, "timestamp", None),
        (2, "", 5),
    ]


def test_a_batch_in_arrow_has_a_row_for_each_input_row_in_input_order() -> None:
    batch = parsed(0, payment(0), payment(1), payment(9, amount="x"), payment(2), None)
    rows = arrow_rows(many_arrow(THREE, batch))
    ids = [row["transaction_id"] for row in rows]
    assert ids == [None, "t0", "t1", None, "t2", None]
    for row in rows:
        bad = row["transaction_id"] is None
        assert (row["error"] is not None) == bad
        assert all((row[name] is None) == bad for name in FIELDS)
    assert rows[3]["error"] == "row 3: amount is 'x', expected a finite number of 0 or more"


def test_the_arrow_answer_always_has_the_same_columns_of_the_same_types() -> None:
    batches = [
        (THREE, parsed(payment(0), payment(1), payment(2))),
        (decided([], [], []), parsed()),
        (decided([], [], []), parsed(1, 2)),
        (decided([], None, None), parsed(1)),
        (decided([BLOCK], None, None), parsed(1, payment(0))),
    ]
    schemas = {
        pa.ipc.open_stream(many_arrow(decisions, batch)).schema.to_string()
        for decisions, batch in batches
    }
    assert len(schemas) == 1
    table = pa.ipc.open_stream(many_arrow(*(batches[0][0], batches[0][1]))).read_all()
    assert table.column_names == [*FIELDS, "error"]
    assert [table.schema.field(name).type for name in FIELDS[2:5]] == [pa.float64()] * 3


def test_a_batch_of_bad_rows_alone_is_still_an_answer() -> None:
    nothing, bad = decided([], [], []), parsed(1, {}, None)
    assert [row["transaction_id"] for row in arrow_rows(many_arrow(nothing, bad))] == [None] * 3
    body = strict_json(many_json(nothing, bad))
    assert (body["results"], [e["index"] for e in body["errors"]]) == ([], [0, 1, 2])


def test_an_empty_batch_has_an_empty_answer() -> None:
    nothing = decided([], [], [])
    assert strict_json(many_json(nothing, parsed())) == {"results": [], "errors": []}
    assert arrow_rows(many_arrow(nothing, parsed())) == []


@pytest.mark.parametrize(
    "name", ['"', "\\", "\0", "\n", "é", "🂡", "\u2028", "</script>", "t" * 256]
)
def test_any_id_comes_back_as_it_was_sent(name: str) -> None:
    decisions = decided([APPROVE], [0.5], [0.5], ids=[name])
    assert strict_json(each_json(decisions)[0])["transaction_id"] == name
    (row,) = arrow_rows(many_arrow(decisions, parsed(payment(0))))
    assert row["transaction_id"] == name


ODD = [
    '{"amount":NaN}',
    '{"amount":-Infinity}',
    '{"amount":1e400}',
    '{"amount":{"a":[NaN,1e400,"\\ud800"]}}',
    '{"transaction_id":"\\ud800"}',
    '"\\udfff"',
    "NaN",
    "9" * 4_000,
    "[" * 30 + "]" * 30,
    '{"timestamp":"' + "\u2028" * 300 + '"}',
]


@pytest.mark.parametrize("row", ODD)
def test_an_error_about_any_value_can_be_written_in_both_formats(row: str) -> None:
    decisions, batch = decided([], [], []), PAYMENTS.many(f"[{row}]".encode())
    (error,) = strict_json(many_json(decisions, batch))["errors"]
    assert len(json.dumps(error["value"], ensure_ascii=False)) <= 210, "cut, and not NaN"
    (in_arrow,) = arrow_rows(many_arrow(decisions, batch))
    assert in_arrow["error"].startswith("row 0: ")


shares = st.floats(0, 1)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Decisions, Parsed]:
    """Any decisions, with any lanes missing, among any bad rows."""
    codes = draw(st.lists(st.integers(0, 2), max_size=6))
    n = len(codes)
    lane = st.none() | st.lists(shares, min_size=n, max_size=n)
    ids = draw(st.lists(st.text(min_size=1, max_size=3), min_size=n, max_size=n))
    decisions = decided(codes, draw(lane), draw(lane), ids)
    good = iter(range(n))
    bad_rows = draw(st.lists(st.integers(0, 10), max_size=4))
    places = draw(st.permutations([True] * n + [False] * len(bad_rows)))
    return decisions, parsed(*(payment(next(good)) if fine else 0 for fine in places))


@given(batches())
def test_json_and_arrow_say_the_same(case: tuple[Decisions, Parsed]) -> None:
    decisions, batch = case
    body = strict_json(many_json(decisions, batch))
    rows = arrow_rows(many_arrow(decisions, batch))
    good = [row for row in rows if row["error"] is None]
    bad = [(at, row["error"]) for at, row in enumerate(rows) if row["error"] is not None]
    assert len(rows) == batch.count
    assert [{name: row[name] for name in FIELDS} for row in good] == body["results"]
    assert bad == [(error.index, str(error)) for error in batch.first_errors()]
    assert [at for at, _ in bad] == [error["index"] for error in body["errors"]]
    for answer in body["results"]:
        assert bool(answer["reasons"]) == (answer["decision"] != "approve")


@given(batches(), st.integers(0, 5))
def test_decisions_cut_and_joined_again_are_the_same(
    case: tuple[Decisions, Parsed], at: int
) -> None:
    decisions, _ = case
    parts = [decisions.take(slice(0, at)), decisions.take(slice(at, None))]
    assert answers(join(parts)) == answers(decisions)


@given(batches())
def test_an_answer_alone_is_the_answer_in_a_batch(case: tuple[Decisions, Parsed]) -> None:
    decisions, _ = case
    for at, answer in enumerate(answers(decisions)):
        alone = decisions.take(slice(at, at + 1))
        assert answers(alone) == [answer]
        assert strict_json(each_json(alone)[0])["transaction_id"] == answer.transaction_id


def test_the_columns_for_files_are_those_of_the_arrow_answer() -> None:
    written = pa.table(columns(THREE)).to_pylist()
    sent = arrow_rows(many_arrow(THREE, parsed(payment(0), payment(1), payment(2))))
    assert written == [{name: row[name] for name in FIELDS} for row in sent]
