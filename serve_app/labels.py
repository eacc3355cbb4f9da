"""What transactions turned out to be: the body of ``POST /labels``, read and answered."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import Receive

from sentinel.answers import JSON
from sentinel.errors import FieldError, InvalidTransactions, MalformedInput
from sentinel.fields import MAX_STRING, microseconds, printable, read_timestamp
from sentinel.profile_store import Label
from serve_app.bodies import MAX_BATCH_BODY, BodyBudget, Headers, check_json_size, media_type
from serve_app.future import FutureCheck, no_later_than

EXPECTED = {
    "transaction_id": f"a string of 1 to {MAX_STRING} characters",
    "is_fraud": "true or false, or 1 or 0",
    "timestamp": "an RFC 3339 date and time with its offset, such as 2018-08-01T10:00:00Z",
}
"""The fields of a label, and what each may hold."""


class LabelResult(msgspec.Struct, frozen=True):
    """What became of one label."""

    transaction_id: str
    outcome: str


class LabelAnswer(msgspec.Struct, frozen=True):
    """``results`` of the good labels alone, in order; ``errors`` one entry for each bad one."""

    results: Sequence[LabelResult]
    errors: Sequence[FieldError]


class LabelReader:
    """Reads the labels in a request."""

    def __init__(self, bodies: BodyBudget, future: FutureCheck) -> None:
        self._bodies = bodies
        self._future = future

    async def read(
        self, headers: Headers, receive: Receive
    ) -> tuple[list[Label], list[FieldError]]:
        """See ``parse_labels``, in a thread: there may be many.

        :raises Problem: 408, 413, 415.
        :raises Overloaded: there is no room for the body.
        """
        media_type(headers, JSON)
        async with self._bodies.body(headers, receive, MAX_BATCH_BODY) as body:
            return await asyncio.to_thread(parse_labels, body, self._future.latest)


def parse_labels(body: bytes, latest: int) -> tuple[list[Label], list[FieldError]]:
    """The labels in this JSON list, and an error for each that cannot be used.

    ``latest``: a label established after this (microseconds since 1970) is refused.

    :raises MalformedInput: not JSON.
    :raises InvalidTransactions: not a list.
    :raises Problem: 413, too many.
    """
    check_json_size(body)
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedInput(f"not JSON: {error}") from error
    if not isinstance(content, list):
        expected = "a list of objects with the fields " + ", ".join(EXPECTED)
        raise InvalidTransactions([FieldError(None, "", printable(content), expected)])
    labels: list[Label] = []
    errors: list[FieldError] = []
    for index, item in enumerate(content):
        found = _label(index, item, latest)
        if isinstance(found, Label):
            labels.append(found)
        else:
            errors.append(found)
    return labels, errors


def parse_records(records: Sequence[bytes], latest: int) -> tuple[list[Label], list[FieldError]]:
    """As ``parse_labels``, of a stream's records: each is the JSON of one label."""
    labels: list[Label] = []
    errors: list[FieldError] = []
    for index, record in enumerate(records):
        try:
            found = _label(index, msgspec.json.decode(record), latest)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            found = FieldError(index, "", printable(record), f"JSON: {error}")
        if isinstance(found, Label):
            labels.append(found)
        else:
            errors.append(found)
    return labels, errors


def _label(index: int, item: Any, latest: int) -> Label | FieldError:
    if not isinstance(item, dict):
        expected = "an object with the fields " + ", ".join(EXPECTED)
        return FieldError(index, "", printable(item), expected)
    for name, expected in EXPECTED.items():
        if name not in item:
            return FieldError(index, name, None, f"{expected}; the field is missing")
    name, fraud, stamp = (item[key] for key in EXPECTED)
    moment = read_timestamp(stamp)
    good = {
        "transaction_id": isinstance(name, str) and 1 <= len(name) <= MAX_STRING,
        "is_fraud": fraud in (0, 1) and isinstance(fraud, bool | int),
        "timestamp": moment is not None,
    }
    for key, fits in good.items():
        if not fits:
            return FieldError(index, key, printable(item[key]), EXPECTED[key])
    assert moment is not None
    if microseconds(moment) > latest:
        return FieldError(index, "timestamp", printable(stamp), no_later_than(latest))
    return Label(name, bool(fraud), microseconds(moment))


def answer_labels(
    labels: Sequence[Label], outcomes: Sequence[str], errors: Sequence[FieldError]
) -> bytes:
    """The body of the answer."""
    pairs = zip(labels, outcomes, strict=True)
    results = [LabelResult(label.transaction_id, outcome) for label, outcome in pairs]
    return msgspec.json.encode(LabelAnswer(results, errors))
