"""Bodies of many callers are read together, and none can spoil another's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidTransactions, MalformedInput
from tests.unit.test_parse_json import GOOD, WALLETS, rows, seen, values, written

bad_bytes = st.sampled_from([b"", b"{", b"\xff", b"1] , [2", b"[" * 5_000, b'{"a":"\xff"}'])


def told(
    together: dict[int, Any],
    invalid: dict[int, InvalidTransactions],
    malformed: dict[int, MalformedInput],
    at: int,
) -> object:
    if at in malformed:
        return str(malformed[at])
    return invalid[at].errors if at in invalid else [together[at]]


def told_alone(body: bytes) -> object:
    try:
        return seen(WALLETS.one(body))
    except MalformedInput as error:
        return str(error)
    except InvalidTransactions as error:
        return error.errors


@settings(max_examples=200)
@given(st.lists(rows().map(lambda row: written(row, True)) | values.map(json.dumps) | bad_bytes))
def test_each_body_means_what_it_means_alone(batch: list[bytes | str]) -> None:
    bodies = [body if isinstance(body, bytes) else body.encode() for body in batch]
    parsed, malformed = WALLETS.each(bodies)
    invalid = parsed.errors_by_row()
    together = dict(zip(parsed.rows.tolist(), seen(parsed.transactions), strict=True))
    assert parsed.count == len(bodies)
    for at, body in enumerate(bodies):
        found = [at in kind for kind in (together, invalid, malformed)]
        assert sum(found) == 1
        assert told(together, invalid, malformed, at) == told_alone(body)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"tx-id":"a"},{"tx-id":"b"', b"}"),
        (b'{"tx-id":"a","note":[1', b"2]}"),
        (b'{"note":"', b'"}'),
        (b"/*", b"*/"),
    ],
)
def test_two_bodies_that_make_sense_only_joined_are_both_malformed(
    first: bytes, second: bytes
) -> None:
    good = json.dumps(GOOD).encode()
    parsed, malformed = WALLETS.each([good, first, second, good])
    assert parsed.rows.tolist() == [0, 3]
    assert set(malformed) == {1, 2}
