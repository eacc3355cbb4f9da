"""The service under test: where it is, and what it says that it serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import msgspec
from pydantic import ValidationError

from sentinel.dataset import DatasetDescription
from sentinel.errors import SentinelError, UsageError

PATIENCE = 10.0
"""Seconds to wait for the description of the bundle."""


class NoService(SentinelError):
    """What should be loaded cannot be; says what was tried and what came of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is, and how to be let in. Its ``repr`` does not show the key."""

    url: str
    """Without a slash at its end."""
    headers: Mapping[str, str] = field(repr=False)
    """What every request needs."""

    @classmethod
    def of(cls, url: str, api_key: str | None) -> "Address":
        """:raises UsageError: no plain http or https URL, or a key that no header can hold."""
        if "@" in url:  # it would be shown in reports
            raise UsageError("--url holds a user or password; expected --api-key for the key")
        if not _is_plain(url):
            raise UsageError(f"--url is {url!r}; expected one such as http://127.0.0.1:8000")
        headers = {"User-Agent": "sentinel-load"}
        if api_key is not None:
            if not api_key or not api_key.isascii() or not api_key.isprintable():
                raise UsageError("--api-key holds characters that no header can; it is not shown")
            headers["Authorization"] = f"Bearer {api_key}"
        return cls(url.rstrip("/"), headers)

    def conceal(self, text: str) -> str:
        """The text without the key, which a service might repeat."""
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return text.replace(key, "(the key)") if key else text


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers, and what it expects."""

    address: Address
    description: DatasetDescription
    model_version: str


class _Model(msgspec.Struct):
    """Of ``GET /model``, what is needed here."""

    model_version: str
    description: dict[str, Any]


class _Problem(msgspec.Struct):
    detail: str = ""


class _NoRedirect(HTTPRedirectHandler):
    """The load would not follow a redirect either, and the key is for this address alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


def read_service(address: Address) -> Service:
    """What the service at this address says of its bundle.

    :raises NoService: nobody answers there, or not as this product does.
    """
    asked = f"GET {address.url}/model"
    try:
        model = msgspec.json.decode(_get(address, asked), type=_Model)
        description = DatasetDescription.model_validate(model.description)
    except msgspec.DecodeError as error:
        raise NoService(f"{asked}: not a SentinelStream service: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NoService(f"{asked}: description.{place}: {first['msg']}") from error
    return Service(address, description, model.model_version)


def problem_of(body: bytes) -> str:
    """The detail of an RFC 9457 problem in one short line; "" where the body is none."""
    try:
        detail = msgspec.json.decode(body, type=_Problem).detail
    except msgspec.DecodeError:
        return ""
    return " ".join(detail.split())[:200]


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it is what checks it
    except ValueError:
        return False
    known = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
    return known and " " not in url and not parts.query and not parts.fragment


def _get(address: Address, asked: str) -> bytes:
    # No proxy: the load goes straight to the service.
    opener = build_opener(ProxyHandler({}), _NoRedirect())
    request = Request(f"{address.url}/model", headers=dict(address.headers))
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        with error:
            detail = problem_of(error.read())
        hint = "; a key needs the scopes score and read" if error.code in (401, 403) else ""
        raise NoService(f"{asked}: status {error.code}: {detail or error.reason}{hint}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise NoService(
            f"{asked}: {text}; is the service running there (sentinel serve)?"
        ) from error
