"""API keys: who may ask for what.

A file of hashed keys (``sentinel key`` writes it) says which key has which scopes. It is read again
within a second of a change, so that a key is added or withdrawn without a restart (the last one by
``keys: []``); a file that is gone or cannot be read leaves the keys as they were. Keys are 256
random bits, so a plain SHA-256 hides them; what came is compared with every hash in constant time.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from sentinel.errors import SentinelError
from serve_app.problems import Problem

logger = logging.getLogger("ray.serve")

Scope = Literal["score", "label", "read"]
SCOPES: dict[Scope, str] = {
    "score": "/predict and /predict/batch",
    "label": "/labels",
    "read": "/model, /metrics, /docs and /",
}
"""Each scope and what it opens. /health and /ready ask for no key."""

_CHALLENGE = 'Bearer realm="SentinelStream", Basic realm="SentinelStream (key as password)"'


class KeysError(SentinelError):
    """A file of API keys that cannot be used; names the file and what is wrong."""


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[ApiKey]


class ApiKeys:
    """The keys of one file, as it is now."""

    def __init__(self, path: str) -> None:
        """:raises KeysError: the file cannot be read."""
        self._path = Path(path)
        self._stamp = _stamp(self._path)
        self._keys = read_keys(self._path)

    def refresh(self) -> None:
        """Reads the file again if it has changed; keeps the keys if it cannot be read."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except KeysError as error:
            logger.error("API keys kept as they were: %s", error)
        else:
            logger.warning("API keys read again: %d", len(self._keys))

    def require(self, headers: Mapping[bytes, bytes], scope: Scope) -> str:
        """The name of the key that came with a request.

        :raises Problem: 401, there is none or nobody knows it; 403, it lacks the scope.
        """
        presented = _presented(headers)
        if presented is None:
            raise _unauthorized("no API key came; expected Authorization: Bearer KEY")
        digest = hashlib.sha256(presented).hexdigest().encode()
        found = None
        for key in self._keys:  # all of them, so that the time says nothing
            if hmac.compare_digest(key.sha256.encode(), digest):
                found = key
        if found is None:
            raise _unauthorized("this API key is not known")
        if scope not in found.scopes:
            detail = f"key {found.name} has {', '.join(found.scopes)}; expected {scope}"
            raise Problem(403, "forbidden", detail, members={"expected": scope})
        return found.name


def read_keys(path: Path) -> list[ApiKey]:
    """:raises KeysError: the file is missing, no YAML, or not of keys."""
    try:
        keys = msgspec.yaml.decode(path.read_bytes(), type=_File).keys
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, yaml.YAMLError, ValueError) as error:
        raise KeysError(f"{path}: {' '.join(str(error).split())}") from error
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        if twice := {value for value in values if values.count(value) > 1}:
            raise KeysError(f"{path}: {what} {sorted(twice)[0]} is given twice")
    return keys


def add_key(path: Path, name: str, scopes: tuple[Scope, ...]) -> str:
    """Adds a new key to the file, which is made if missing, and returns it: it is kept nowhere.

    :raises KeysError: the file cannot be used, or has a key of that name.
    """
    keys = read_keys(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise KeysError(f"{path}: there is a key {name} already")
    secret = secrets.token_urlsafe(32)
    made = {
        "name": name,
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": scopes,
    }
    try:
        entry = msgspec.convert(made, ApiKey)
    except msgspec.ValidationError as error:
        raise KeysError(f"{name!r} cannot be a key's name: {error}") from error
    content = msgspec.yaml.encode(msgspec.to_builtins(_File([*keys, entry])))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        partial.touch(mode=0o600)
        partial.write_bytes(content)
        partial.rename(path)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    return secret


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; ``None`` where it is not."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _presented(headers: Mapping[bytes, bytes]) -> bytes | None:
    if (key := headers.get(b"x-api-key")) is not None:
        return key
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    if scheme.lower() == b"basic":  # what a browser can send
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return None


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"www-authenticate": _CHALLENGE})
