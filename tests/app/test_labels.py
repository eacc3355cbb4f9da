"""``POST /labels``: what transactions turned out to be, and what is said of each label."""

import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from sentinel.answers import JSON
from sentinel.errors import InvalidTransactions, MalformedInput
from serve_app import bodies
from serve_app.keys import add_key
from serve_app.labels import parse_labels
from tests.app.conftest import Run, Scene, numbered

Row = dict[str, Any]
NEVER = 2**62


def said(name: str, fraud: Any = True, when: Any = "2018-08-03T09:00:00Z") -> Row:
    """A label."""
    return {"transaction_id": name, "is_fraud": fraud, "timestamp": when}


@pytest.fixture
def row(row: Row) -> Row:
    """A transaction of a customer and a terminal that nobody else has."""
    return {**row, "customer_id": "new customer", "terminal_id": "new terminal"}


async def label(app: Scene, *labels: Any, **headers: str) -> httpx.Response:
    return await app.client.post("/labels", json=labels, headers=headers)


async def outcomes(app: Scene, *labels: Any) -> list[str]:
    answer = await label(app, *labels)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["errors"] == []
    names = [result["transaction_id"] for result in content["results"]]
    assert names == [one["transaction_id"] for one in labels]
    return [result["outcome"] for result in content["results"]]


def frauds(app: Scene, row: Row) -> list[int]:
    """The known frauds of the customer and of the terminal."""
    logs = app.profiles.store.profiles.logs
    return [int(log.records(row[entity])["frauds"].sum()) for entity, log in logs.items()]


# --- what becomes of labels -----------------------------------------------------------------------


def test_every_label_is_told_what_became_of_it(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        for at in range(3):
            assert (await app.predict(numbered(row, at))).status_code == 200
        assert await outcomes(
            app,
            said("t0"),
            said("t1", False),
            said("nobody's"),
            said("t0", True, "2018-08-03T11:00:00+02:00"),
            said("t0", False, "2018-08-03T08:59:59Z"),
        ) == ["applied", "applied", "unknown", "repeated", "superseded"]
        assert frauds(app, row) == [1, 1]
        assert await outcomes(app, said("t0", False)) == ["applied"], "the last of one time"
        assert frauds(app, row) == [0, 0]

    run_profiles(scene)


def test_a_label_counts_in_what_is_answered_once_the_delay_has_passed(
    run_profiles: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        for at in range(6):
            await app.predict(numbered(row, at))
        early = numbered(row, 10, timestamp="2018-08-08T09:59:59.999999Z")
        late = numbered(row, 11, timestamp="2018-08-08T10:00:00Z")
        await outcomes(app, *(said(f"t{at}") for at in range(6)))
        assert frauds(app, row) == [6, 6]
        calm = (await app.predict(early)).json()
        risky = (await app.predict(late)).json()
        assert risky["fraud_probability"] > calm["fraud_probability"]

    run_profiles(scene)


def test_a_label_of_a_transaction_in_the_bundles_data_finds_it(
    run_profiles: Run, transactions_file: Path
) -> None:
    table = pq.read_table(transactions_file)
    last = str(table.column("transaction_id")[-1].as_py())

    async def scene(app: Scene) -> None:
        before = _all_frauds(app)
        fraud = bool(table.column("is_fraud")[-1].as_py())
        assert await outcomes(app, said(last, not fraud)) == ["applied"]
        assert _all_frauds(app) == before + (-2 if fraud else 2)

    run_profiles(scene)


def _all_frauds(app: Scene) -> int:
    logs = app.profiles.store.profiles.logs.values()
    return sum(int(np.sum(records["frauds"])) for log in logs for _, records in log.items())


def test_a_label_is_of_every_callers_transaction_of_that_id(
    run_profiles: Run, row: Row, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    shop, bank = (add_key(file, name, ("score",)) for name in ("shop", "bank"))
    desk = add_key(file, "desk", ("label",))

    async def scene(app: Scene) -> None:
        for key in (shop, bank):
            await app.predict(row, authorization=f"Bearer {key}")
        answer = await label(app, said("t1"), authorization=f"Bearer {desk}")
        assert answer.json()["results"] == [{"transaction_id": "t1", "outcome": "applied"}]
        assert frauds(app, row) == [2, 2]

    run_profiles(scene, keys=str(file))


def test_a_bundle_that_needs_no_labels_says_so(run: Run) -> None:
    async def scene(app: Scene) -> None:
        assert await outcomes(app, said("t1"), said("t2", False)) == ["unused", "unused"]

    run(scene)


def test_no_labels_are_no_results_and_no_error(run_profiles: Run) -> None:
    async def scene(app: Scene) -> None:
        answer = await label(app)
        assert (answer.status_code, answer.json()) == (200, {"results": [], "errors": []})
        assert answer.headers["content-type"] == JSON

    run_profiles(scene)


def test_labels_that_cannot_be_kept_now_may_be_sent_again(run_profiles: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        await app.predict(row)
        app.profiles.missing = "it is down"
        refused = await label(app, said("t1"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["bound"] == "profiles"
        bad = await label(app, {"is_fraud": True})
        assert bad.status_code == 200, "there is no good one to keep"
        app.profiles.missing = ""
        assert await outcomes(app, said("t1")) == ["applied"]

    run_profiles(scene)


# --- bad rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field", "value"),
    [
        (None, "", None),
        (7, "", 7),
        ("t1", "", "t1"),
        ([said("t1")], "", None),
        ({}, "transaction_id", None),
        ({"transaction_id": "t1", "timestamp": "2018-08-03T09:00:00Z"}, "is_fraud", None),
        ({"transaction_id": "t1", "is_fraud": True}, "timestamp", None),
        (said(""), "transaction_id", ""),
        (said("x" * 257), "transaction_id", None),
        (said(7), "transaction_id", 7),  # type: ignore[arg-type]
        (said(None), "transaction_id", None),  # type: ignore[arg-type]
        (said("t1", "true"), "is_fraud", "true"),
        (said("t1", 2), "is_fraud", 2),
        (said("t1", 1.0), "is_fraud", 1.0),
        (said("t1", None), "is_fraud", None),
        (said("t1", []), "is_fraud", "[]"),
        (said("t1", {}), "is_fraud", "{}"),
        (said("t1", True, "2018-08-03"), "timestamp", "2018-08-03"),
        (said("t1", True, "2018-08-03T09:00:00"), "timestamp", "2018-08-03T09:00:00"),
        (said("t1", True, 1_533_286_800), "timestamp", 1_533_286_800),
        (said("t1", True, None), "timestamp", None),
        (said("t1", True, {"a": 1}), "timestamp", '{"a": 1}'),
    ],
)
def test_a_bad_label_is_an_error_of_its_row_and_the_others_count(
    bad: Any, field: str, value: Any
) -> None:
    body = msgspec.json.encode([said("t0"), bad, said("t1")])
    labels, errors = parse_labels(body, NEVER)
    assert [one.transaction_id for one in labels] == ["t0", "t1"]
    (error,) = errors
    assert (error.index, error.field) == (1, field)
    assert error.value == value or value is None
    assert error.expected


def test_a_label_from_the_future_is_told_until_when_one_may_be(run_profiles: Run) -> None:
    def in_seconds(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))

    async def scene(app: Scene) -> None:
        late = in_seconds(3_600)
        answer = await label(app, said("t1", True, late), said("t1", True, in_seconds(200)))
        content = answer.json()
        assert [result["outcome"] for result in content["results"]] == ["unknown"]
        (error,) = content["errors"]
        assert (error["index"], error["field"], error["value"]) == (0, "timestamp", late)
        assert error["expected"].startswith("a time no later than ")

    run_profiles(scene, cold=True)


def test_true_and_one_are_the_same_and_other_members_are_ignored() -> None:
    body = b"""[{"transaction_id":"a","is_fraud":1,"timestamp":"1970-01-01T00:00:00.000001Z"},
      {"is_fraud":true,"transaction_id":"a","timestamp":"1970-01-01T01:00:00.000001+01:00","x":[1]},
      {"transaction_id":"a","is_fraud":0,"timestamp":"1970-01-01T00:00:00.000001Z"},
      {"transaction_id":"\\u00fc","is_fraud":false,"timestamp":"0001-01-01T00:00:00Z"}]"""
    labels, errors = parse_labels(body, NEVER)
    assert errors == []
    assert labels[0] == labels[1]
    assert (labels[0].is_fraud, labels[0].timestamp) == (True, 1)
    assert labels[2].is_fraud is False
    assert labels[3].transaction_id == "ü"


def test_every_bad_row_is_one_error_in_the_order_of_rows() -> None:
    body = b'[1, {"transaction_id": "", "is_fraud": 7, "timestamp": 1}, [], {}]'
    labels, errors = parse_labels(body, NEVER)
    assert labels == []
    assert [(error.index, error.field) for error in errors] == [
        (0, ""), (1, "transaction_id"), (2, ""), (3, "transaction_id"),
    ]  # fmt: skip


# --- bad bodies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[",
        b"[{]",
        b"nonsense",
        b'[{"transaction_id": "\xff"}]',
        b'["\\ud800"]',
        b"[NaN]",
        b"[1e999]",
        b"[" * 100_000,
        b"[]]",
        b"\xef\xbb\xbf[]",
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse_labels(body, NEVER)


@pytest.mark.parametrize("body", ["{}", "7", "null", '"t1"', "true", '{"transaction_id": "t1"}'])
def test_what_is_no_list_is_refused_with_what_a_label_is(body: str) -> None:
    with pytest.raises(InvalidTransactions) as refused:
        parse_labels(body.encode(), NEVER)
    (error,) = refused.value.errors
    assert (error.index, error.field) == (None, "")
    assert error.expected == (
        "a list of objects with the fields transaction_id, is_fraud, timestamp"
    )


def test_bodies_that_are_no_list_too_large_or_of_another_type_are_refused(
    run_profiles: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(app: Scene) -> None:
        malformed = await app.client.post("/labels", content=b"[" * 100_000)
        assert malformed.status_code == 400
        assert malformed.headers["content-type"] == "application/problem+json"
        mixed = (await label(app, {}, said("t1"))).json()
        assert [one["outcome"] for one in mixed["results"]] == ["unknown"]
        assert [one["index"] for one in mixed["errors"]] == [0]
        no_list = await app.client.post("/labels", json={})
        assert no_list.status_code == 422
        assert no_list.json()["expected"].startswith("a list of objects with the fields")
        large = b"[" + b" " * bodies.MAX_BATCH_BODY + b"]"
        too_large = await app.client.post("/labels", content=large)
        assert too_large.status_code == 413
        monkeypatch.setattr(bodies, "MAX_ROWS", 2)
        too_many = await label(app, *[said("t1")] * 3)
        assert too_many.status_code == 413
        assert "3" in too_many.json()["detail"]
        for kind in ("text/plain", "application/vnd.apache.arrow.stream"):
            other = await app.client.post("/labels", content=b"[]", headers={"content-type": kind})
            assert other.status_code == 415
        got = await app.client.get("/labels")
        assert got.status_code == 405
        assert "POST" in got.headers["allow"]
        assert app.bodies.held == 0

    run_profiles(scene, cold=True)


def test_the_route_asks_for_the_scope_label(run_profiles: Run, row: Row, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    keys = {scope: add_key(file, scope, (scope,)) for scope in ("score", "label", "read")}

    async def scene(app: Scene) -> None:
        await app.predict(row, authorization=f"Bearer {keys['score']}")
        assert (await label(app, said("t1"))).status_code == 401
        for scope, status in (("score", 403), ("read", 403), ("label", 200)):
            answer = await label(app, said("t1"), authorization=f"Bearer {keys[scope]}")
            assert answer.status_code == status, scope
        refused = await app.predict(row, authorization=f"Bearer {keys['label']}")
        assert refused.status_code == 403
        assert frauds(app, row) == [1, 1]

    run_profiles(scene, keys=str(file))


# --- the document ---------------------------------------------------------------------------------


def test_the_openapi_document_describes_the_route(run_profiles: Run) -> None:
    async def scene(app: Scene) -> None:
        document = (await app.client.get("/openapi.json")).json()
        route = document["paths"]["/labels"]["post"]
        items = route["requestBody"]["content"][JSON]["schema"]["items"]
        assert set(items["required"]) == {"transaction_id", "is_fraud", "timestamp"}
        assert set(items["properties"]) == set(items["required"])
        assert {"200", "400", "401", "403", "413", "415", "422", "503"} <= set(route["responses"])
        assert route["security"]
        told = route["responses"]["200"]["description"]
        for outcome in ("applied", "repeated", "superseded", "unknown", "unused"):
            assert f"`{outcome}`" in told
        schemas = document["components"]["schemas"]
        assert set(schemas["LabelAnswer"]["properties"]) == {"results", "errors"}
        assert set(schemas["LabelResult"]["properties"]) == {"transaction_id", "outcome"}
        example = items["example"]
        assert await outcomes(app, example) == ["unknown"]

    run_profiles(scene, cold=True)
