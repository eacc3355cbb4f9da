"""Request bodies: of a media type this service reads, and no larger than it can afford."""

import asyncio
from collections.abc import Mapping
from email.message import Message

import msgspec
from starlette.types import Receive

from sentinel.answers import JSON
from sentinel.arrow_size import stream_size
from sentinel.errors import MalformedInput, Overloaded
from serve_app.problems import Problem

Headers = Mapping[bytes, bytes]
"""The headers of a request, names in lower case."""

MAX_BODY = 2**20
"""Bytes of one transaction. The shipped ones take under 1 KiB; this leaves room for any other
description and for fields that are ignored, and none for filling the memory."""

MAX_BATCH_BODY = 32 * 2**20
"""Bytes of a batch: ``MAX_ROWS`` plain transactions of some 300 bytes. A body and what is parsed
from it live in the router's memory together, at about ten times this."""

MAX_ROWS = 100_000
"""Rows of a batch. Bytes do not bound them: a list of zeros has a row every two bytes, each with
an error to report, and an Arrow column of nulls has none for any number of rows."""

MAX_CONTENT_TYPE = 256
"""Characters of a content-type header; the ones read here have at most some 60."""

MAX_VALUES = 40 * MAX_ROWS
"""Values in a JSON batch, counted by its commas. It takes memory to count rows, so what cannot be
a batch is refused before: at this number every value, with its name, would have 8 bytes."""


MAX_BODY_SECONDS = 60.0
"""Longest time a body may take to come, however steadily: the largest needs half a megabyte a
second."""


class BodyBudget:
    """The bytes of all bodies that one router holds, from their first byte to their answer."""

    def __init__(self, limit: int, patience: float) -> None:
        """``limit`` in bytes; ``patience``: seconds to wait for the next part of a body."""
        self._limit = limit
        self._patience = patience
        self.held = 0
        """Bytes held now."""

    def body(self, headers: Headers, receive: Receive, limit: int) -> "_Body":
        """The whole body, counted against the budget while the block runs (``async with``).

        :raises Problem: 413, it is longer than ``limit`` bytes (no more than that is ever held);
            408, it stopped coming.
        :raises Overloaded: there is no room for it now.
        :raises MalformedInput: the client went away.
        """
        return _Body(self, headers, receive, limit)

    async def _read(self, body: "_Body", receive: Receive, limit: int) -> bytes:
        chunks = []
        loop = asyncio.get_running_loop()
        last = loop.time() + MAX_BODY_SECONDS
        try:
            async with asyncio.timeout(self._patience) as waiting:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise MalformedInput("the body ended early")
                    chunk = message.get("body", b"")
                    body.taken += self._take(len(chunk))
                    _check_length(body.taken, limit)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        break
                    waiting.reschedule(min(last, loop.time() + self._patience))
        except TimeoutError:
            raise self._too_slow(body.taken) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_slow(self, taken: int) -> Problem:
        detail = (
            f"{taken:,} bytes came; expected the next within {self._patience:g} s, and all of them "
            f"within {MAX_BODY_SECONDS:g} s"
        )
        return Problem(408, "body-timeout", detail, headers={"connection": "close"})

    def _take(self, size: int) -> int:
        if self.held + size > self._limit:
            raise Overloaded("bytes", f"{self.held:,} bytes of requests are held already")
        self.held += size
        return size


class _Body:
    """What ``BodyBudget.body`` gives. A class, since every request has one: as a generator it took
    twice the time."""

    __slots__ = ("_budget", "_headers", "_limit", "_receive", "taken")

    def __init__(self, budget: BodyBudget, headers: Headers, receive: Receive, limit: int) -> None:
        self._budget = budget
        self._headers = headers
        self._receive = receive
        self._limit = limit
        self.taken = 0

    async def __aenter__(self) -> bytes:
        declared = self._headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limit:
            raise _too_large(f"{declared.decode()} bytes", self._limit)
        try:
            return await self._budget._read(self, self._receive, self._limit)
        except BaseException:
            self._budget.held -= self.taken
            raise

    async def __aexit__(self, *_: object) -> None:
        self._budget.held -= self.taken


def _check_length(size: int, limit: int) -> None:
    if size > limit:
        raise _too_large(f"more than {limit:,} bytes", limit)


def media_type(headers: Headers, *accepted: str) -> str:
    """Which of ``accepted`` the body is; JSON where the client does not say.

    Parameters are ignored, except a charset other than UTF-8; ``application/anything+json`` is
    JSON. (``curl --data`` alone claims to send a form, which is refused: nothing here is one.)

    :raises Problem: 415.
    """
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.strip().lower() != "identity":
        raise _unsupported(f"content-encoding {encoding!r} (none is)", accepted)
    said = headers.get(b"content-type", b"application/json").decode("latin-1")
    if said == JSON:
        return _one_of(JSON, accepted, said)
    if len(said) > MAX_CONTENT_TYPE:  # the parser below takes quadratic time
        raise _unsupported("so long a content-type", accepted)
    header = Message()
    header["content-type"] = said
    name = header.get_content_type()
    charset = (header.get_content_charset() or "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise _unsupported(f"charset {charset!r}", accepted)
    if name.startswith("application/") and name.endswith("+json"):
        name = JSON
    return _one_of(name, accepted, said)


def _one_of(name: str, accepted: tuple[str, ...], said: str) -> str:
    if name not in accepted:
        raise _unsupported(repr(said), accepted)
    return name


def check_json_size(body: bytes) -> None:
    """Holds a batch to its limits before it is parsed.

    :raises Problem: 413, the list in this body has too many elements, or values in them.
    :raises MalformedInput: it has so many values that they must be counted, and is not JSON.
    """
    values = body.count(b",") + 1
    if values <= MAX_ROWS:
        return
    if values > MAX_VALUES:
        raise _too_many("values", values, MAX_VALUES)
    try:
        rows = len(msgspec.json.decode(body, type=list[msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError) as error:
        # The parser would look for a NaN in it, to name its field, but has no limit to rows.
        raise MalformedInput(f"not a JSON list: {error}") from error
    if rows > MAX_ROWS:
        raise _too_many("rows", rows, MAX_ROWS)


def check_arrow_size(body: bytes) -> None:
    """:raises Problem: 413, this stream has more rows, or after decompression more bytes."""
    try:
        size = stream_size(body)
    except ValueError:
        return  # the parser says what is wrong with it
    if size.rows > MAX_ROWS:
        raise _too_many("rows", size.rows, MAX_ROWS)
    if size.data > MAX_BATCH_BODY:
        raise _too_large(f"{size.data:,} bytes after decompression", MAX_BATCH_BODY)


def _too_large(came: str, limit: int) -> Problem:
    detail = f"the body has {came}; at most {limit:,} are accepted here"
    return Problem(413, "too-large", detail, members={"limit_bytes": limit})


def _too_many(what: str, came: int, limit: int) -> Problem:
    detail = f"the batch has {came:,} {what}; at most {limit:,} are accepted here"
    return Problem(413, "too-large", detail, members={f"limit_{what}": limit})


def _unsupported(came: str, accepted: tuple[str, ...]) -> Problem:
    detail = f"{came} cannot be read here; expected {' or '.join(accepted)}"
    members = {"accepted": list(accepted)}
    headers = {"accept-post": ", ".join(accepted)}
    return Problem(415, "unsupported-media-type", detail, members=members, headers=headers)
