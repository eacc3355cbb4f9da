"""Every refusal over HTTP is an RFC 9457 problem: which field, its value, what was expected."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from sentinel.errors import (
    FieldError,
    IdentityConflict,
    InvalidTransactions,
    MalformedInput,
    Overloaded,
)

PROBLEM_JSON = "application/problem+json"
_TYPE = "urn:problem-type:sentinelstream:"

RETRY_SECONDS = 1
"""How long who was refused for want of room is told to wait."""

TITLES = {
    "malformed-input": "The body is not what its media type says",
    "invalid-transaction": "A field cannot be accepted",
    "identity-conflict": "Another transaction has this id",
    "too-large": "The body is too large",
    "unsupported-media-type": "The media type is not one this route reads",
    "method-not-allowed": "The route does not take this method",
    "body-timeout": "The body did not come in time",
    "unauthorized": "An API key is needed",
    "forbidden": "The API key does not open this",
    "not-ready": "The service cannot score yet",
    "overloaded": "The service has more to do than it can; the same request may be sent again",
    "stopping": "The service is being stopped; the same request may be sent again",
    "metrics-unavailable": "The metrics of this node cannot be had now",
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

    def body(self) -> bytes:
        """The problem as it is sent."""
        return msgspec.json.encode(
            {
                "type": _TYPE + self.kind,
                "title": TITLES[self.kind],
                "status": self.status,
                "detail": self.detail,
                **self.members,
            }
        )

    def response(self) -> Response:
        """The same for Starlette."""
        return Response(self.body(), self.status, self.headers, PROBLEM_JSON)


def malformed(error: MalformedInput) -> Problem:
    """400: the bytes are not JSON, not UTF-8, not Arrow, or nested too deeply."""
    return Problem(400, "malformed-input", str(error))


def invalid(error: InvalidTransactions) -> Problem:
    """422: the whole body is at fault; bad rows of a batch are reported inside its answer.

    ``errors`` has every bad field; the first is repeated at the top.
    """
    errors = [_members(field) for field in error.errors]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f"{first['field']}: " if first["field"] else ""
    detail = f"{place}expected {first['expected']}{more}"
    return Problem(422, "invalid-transaction", detail, members={**first, "errors": errors})


def conflict(error: IdentityConflict) -> Problem:
    """409: the id of a transaction was used with other fields."""
    found = {"field": error.field, "value": error.value, "expected": error.expected}
    return Problem(409, "identity-conflict", str(error), members={**found, "errors": [found]})


def overloaded(error: Overloaded) -> Problem:
    """503: there is no room; ``bound`` names what is full."""
    members, headers = {"bound": error.bound}, {"retry-after": str(RETRY_SECONDS)}
    return Problem(503, "overloaded", str(error), members=members, headers=headers)


def without_type(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that says no more than its status (404, 405)."""
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail}
    return Response(msgspec.json.encode(body), status, dict(headers or {}), PROBLEM_JSON)


def internal() -> Problem:
    """500: a mistake of ours, which the log tells of."""
    return Problem(500, "internal-error", "the error has been logged")


def _members(error: FieldError) -> dict[str, Any]:
    return {"field": error.field, "value": error.value, "expected": error.expected}
