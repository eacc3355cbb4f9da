"""Every refusal over HTTP is an RFC 9457 problem: which field, its value, what was expected."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from sentinel.errors import FieldError, InvalidTransactions, MalformedInput

PROBLEM_JSON = "application/problem+json"
_TYPE = "urn:problem-type:sentinelstream:"

TITLES = {
    "malformed-input": "The body is not what its media type says",
    "invalid-transaction": "A field cannot be accepted",
    "too-large": "The body is too large",
    "unsupported-media-type": "The media type is not one this route reads",
    "not-ready": "The service cannot score yet",
    "internal-error": "The service failed; the same request may be sent again",
}
"""The last part of each problem's ``type``, and its ``title``."""


class Problem(Exception):
    """A refusal on its way to the client; ``members`` are added to the problem's own."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The problem as it is sent."""
        body = {
            "type": _TYPE + self.kind,
            "title": TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return Response(msgspec.json.encode(body), self.status, self.headers, PROBLEM_JSON)


def malformed(error: MalformedInput) -> Problem:
    """400: the bytes are not JSON, not UTF-8, not Arrow, or nested too deeply."""
    return Problem(400, "malformed-input", str(error))


def invalid(error: InvalidTransactions, *, single: bool) -> Problem:
    """422: ``errors`` has every bad field; the first is repeated at the top.

    ``single``: the body was one transaction, so that a row number would only confuse.
    """
    errors = [_members(field, single=single) for field in error.errors]
    first = {name: value for name, value in errors[0].items() if name != "index"}
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f"{first['field']}: " if first["field"] else ""
    detail = f"{place}expected {first['expected']}{more}"
    return Problem(422, "invalid-transaction", detail, members={**first, "errors": errors})


def without_type(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that says no more than its status (404, 405)."""
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail}
    return Response(msgspec.json.encode(body), status, dict(headers or {}), PROBLEM_JSON)


def _members(error: FieldError, *, single: bool) -> dict[str, Any]:
    members = {"field": error.field, "value": error.value, "expected": error.expected}
    # A whole column of an Arrow stream has no row.
    return members if single or error.index is None else {"index": error.index, **members}
