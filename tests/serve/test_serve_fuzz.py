"""Whatever bytes come, the answer is 200 or a problem that names the fault, no error of ours."""

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.answers import ARROW, JSON
from tests.serve.load import row_of
from tests.serve.serving import Served

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
KNOWN = (200, 400, 413, 415, 422)

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from(sorted(row_of(1))), anything, max_size=3)
rows = fields.map(lambda changes: {**row_of(1), **changes})
edits = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 3), st.binary(max_size=3)))


def edited(row: dict[str, Any], changes: list[tuple[int, int, bytes]]) -> bytes:
    body = json.dumps(row).encode()
    for at, length, new in changes:
        body = body[:at] + new + body[at + length :]
    return body


def check(answer: httpx.Response) -> None:
    assert answer.status_code in KNOWN, answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@FUZZ
@given(st.binary() | anything.map(json.dumps) | st.builds(edited, rows, edits), st.booleans())
def test_any_json_or_bytes(served: Served, body: bytes | str, batch: bool) -> None:
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    path = "/predict/batch" if batch else "/predict"
    check(served.client.post(path, content=content, headers={"content-type": JSON}))


@FUZZ
@given(st.lists(rows | anything, max_size=5))
def test_any_list_has_a_result_or_an_error_for_each_of_its_rows(
    served: Served, batch: list[Any]
) -> None:
    body = json.dumps(batch).encode()
    answer = served.client.post("/predict/batch", content=body, headers={"content-type": JSON})
    check(answer)
    if answer.status_code == 200:
        found = answer.json()
        assert len(found["results"]) + len(found["errors"]) == len(batch)


@FUZZ
@given(st.binary(max_size=300), st.binary(max_size=4), st.integers(0, 2_000))
def test_any_arrow_bytes(served: Served, noise: bytes, patch: bytes, at: int) -> None:
    from tests.serve.test_serve_refusals import stream_of

    whole = stream_of([dict(row_of(n)) for n in range(3)])
    for body in (noise, whole[:at] + patch + whole[at + len(patch) :], whole[:at]):
        check(served.client.post("/predict/batch", content=body, headers={"content-type": ARROW}))


@FUZZ
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_any_media_type(served: Served, kind: str) -> None:
    content = json.dumps(row_of(1)).encode()
    check(served.client.post("/predict", content=content, headers={"content-type": kind}))
