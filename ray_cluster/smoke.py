"""A transaction through the front door after a sync: does the service answer by the new bundle?

Argo CD calls a RayService healthy as soon as its applications run; a change of the bundle in place
takes seconds more, and a bundle that replicas refuse leaves the old one serving, and running.
"""

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import urllib3

from ray_cluster.errors import ClusterError, NotReady

IN_A_ROW = 10
"""Answers by the new bundle, one after another: routers change one by one."""

ENTITY = "sentinel-smoke"
"""The customer, terminal or whatever a transaction is of: nobody's profile is touched."""

PAUSE_S = 0.5
ANSWER_S = 10.0


class Smoked(msgspec.Struct, frozen=True):
    """The service answered by ``digest``, ``answers`` times in a row. ``seconds`` until then."""

    digest: str
    answers: int
    seconds: float


class _NotYet(Exception):
    """An answer that may become right by waiting; its text says what was seen."""


def smoke(url: str, digest: str, *, key: str = "", patience_s: float = 120.0) -> Smoked:
    """Posts transactions until ``IN_A_ROW`` in a row were judged whole by the bundle ``digest``.

    :raises NotReady: not so within ``patience_s``; says which bundle answers, and why not this one.
    :raises ClusterError: the service does not take the key or its own example of a transaction.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    pool = urllib3.PoolManager(headers=headers, retries=False)
    began = time.monotonic()
    good, example = 0, None
    while good < IN_A_ROW:
        try:
            example = example or _Example.of(pool, url)  # another bundle may want other fields
            _post(pool, url, digest, example)
            good += 1
        except _NotYet as error:
            good, example = 0, None
            waited = time.monotonic() - began
            if waited >= patience_s:
                reasons = [str(error), *_refused(pool, url)]
                raise NotReady(f"{url} does not answer by {digest}", waited, reasons) from error
            time.sleep(PAUSE_S)
    return Smoked(digest, good, round(time.monotonic() - began, 1))


class _Example(msgspec.Struct, frozen=True):
    """The service's own example of a transaction, and which of its fields are its id and time."""

    row: dict[str, Any]
    id: str
    time: str

    @classmethod
    def of(cls, pool: urllib3.PoolManager, url: str) -> "_Example":
        description = _ask(pool, "GET", f"{url}/model")["description"]
        document = _ask(pool, "GET", f"{url}/openapi.json")
        made: dict[str, Any] = dict(document["components"]["schemas"]["Transaction"]["example"])
        made.update(dict.fromkeys(description.get("entities") or (), ENTITY))
        return cls(made, description["id"], description["time"])

    def as_new(self) -> dict[str, Any]:
        """A transaction of now that nobody has sent before."""
        row = self.row | {self.id: f"smoke-{secrets.token_hex(8)}"}
        if self.time in row:
            row[self.time] = datetime.now(UTC).isoformat(timespec="seconds")
        return row


def _post(pool: urllib3.PoolManager, url: str, digest: str, example: _Example) -> None:
    answer = _ask(pool, "POST", f"{url}/predict", json=example.as_new())
    if answer.get("model_version") != digest:
        raise _NotYet(f"the answer came from bundle {answer.get('model_version')}")
    if answer.get("degraded"):
        raise _NotYet("the answer was degraded: something it rests on is missing (see /ready)")


def _refused(pool: urllib3.PoolManager, url: str) -> list[str]:
    """What the routers say of bundles that they could not load."""
    try:
        answer = pool.request("GET", f"{url}/ready", timeout=ANSWER_S)
        content = msgspec.json.decode(answer.data)
    except (urllib3.exceptions.HTTPError, msgspec.DecodeError):
        return []
    refused = [
        f"{each['deployment']} refused bundle {each['bundle']}: {each['reason']}"
        for each in content.get("refused") or ()
    ]
    missing = content.get("missing") or {}
    return refused + [f"{name} is missing: {why}" for name, why in missing.items()]


def _ask(pool: urllib3.PoolManager, method: str, place: str, **body: Any) -> dict[str, Any]:
    try:
        answer = pool.request(method, place, timeout=ANSWER_S, **body)
    except urllib3.exceptions.HTTPError as error:
        raise _NotYet(f"{place} does not answer: {error}") from error
    if 400 <= answer.status < 500:
        said = answer.data[:500].decode(errors="replace")
        raise ClusterError(f"{place} answered {answer.status}, expected 200: {said}")
    if answer.status != 200:
        raise _NotYet(f"{place} answered {answer.status}")
    try:
        content: dict[str, Any] = msgspec.json.decode(answer.data, type=dict)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise _NotYet(f"{place} answered no JSON object: {error}") from error
    return content
