"""Bodies of many callers are read apart and made columns together; none can spoil another's."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidTransactions, MalformedInput
from tests.unit.test_parse_json import GOOD, WALLETS, rows, seen, values, written

bad_bytes = st.sampled_from([b"", b"{", b"\xff", b"1] , [2", b"[" * 5_000, b'{"a":"\xff"}'])


@settings(max_examples=200)
@given(st.lists(rows().map(lambda row: written(row, True)) | values.map(json.dumps) | bad_bytes))
def test_what_is_read_fast_means_what_it_means_alone(batch: list[bytes | str]) -> None:
    bodies = [body if isinstance(body, bytes) else body.encode() for body in batch]
    read = [(body, row) for body in bodies if (row := WALLETS.read(body)) is not None]
    parsed = WALLETS.together([row for _, row in read])
    invalid = parsed.errors_by_row()
    together = dict(zip(parsed.rows.tolist(), seen(parsed.transactions), strict=True))
    assert parsed.count == len(read)
    for at, (body, _) in enumerate(read):
        assert (at in together) != (at in invalid)
        found = [together[at]] if at in together else invalid[at].errors
        assert found == told_alone(body)


def told_alone(body: bytes) -> object:
    try:
        return seen(WALLETS.one(body))
    except MalformedInput as error:
        return str(error)
    except InvalidTransactions as error:
        return error.errors


def test_a_plain_good_body_is_read_fast() -> None:
    assert WALLETS.read(json.dumps(GOOD).encode()) is not None


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**GOOD, "note": 1}).encode(),
        json.dumps(GOOD).encode().replace(b'"t"', b'"\\u0074"'),
        json.dumps({**GOOD, "tx-id": "\u00e9"}, ensure_ascii=False).encode(),
        b'{"tx-id":"a"},{"tx-id":"b"}',
        b"\xff",
        b"",
    ],
)
def test_what_needs_a_second_look_is_not(body: bytes) -> None:
    assert WALLETS.read(body) is None
