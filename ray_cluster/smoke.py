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
    good, seen = 0, "nothing was asked"
    while good < IN_A_ROW:
        try:
            _post(pool, url, digest)
            good += 1
        except _NotYet as error:
            good, seen = 0, str(error)
            if time.monotonic() - began >= patience_s:
                refused = _refused(pool, url)
                reasons = [seen, *refused]
                waited = time.monotonic() - began
                raise NotReady(f"{url} does not answer by {digest}", waited, reasons) from error
            time.sleep(PAUSE_S)
    return Smoked(digest, good, round(time.monotonic() - began, 1))


def _post(pool: urllib3.PoolManager, url: str, digest: str) -> None:
    transaction = _transaction(pool, url)
    answer = _ask(pool, "POST", f"{url}/predict", json=transaction)
    if answer.get("model_version") != digest:
        raise _NotYet(f"the answer came from bundle {answer.get('model_version')}")
    if answer.get("degraded"):
        raise _NotYet("the answer was degraded: something it rests on is missing (see /ready)")


def _transaction(pool: urllib3.PoolManager, url: str) -> dict[str, Any]:
    """The example of the service's own description, as a new transaction of now."""
    description = _ask(pool, "GET", f"{url}/model")["description"]
    document = _ask(pool, "GET", f"{url}/openapi.json")
    made: dict[str, Any] = dict(document["components"]["schemas"]["Transaction"]["example"])
    made.update(dict.fromkeys(description.get("entities") or (), ENTITY))
    made[description["id"]] = f"smoke-{secrets.token_hex(8)}"
    if description["time"] in made:
        made[description["time"]] = datetime.now(UTC).isoformat(timespec="seconds")
    return made


def _refused(pool: urllib3.PoolManager, url: str) -> list[str]:
    """What the routers say of bundles that they could not load."""
    try:
        answer = pool.request("GET", f"{url}/ready", timeout=ANSWER_S)
        content = msgspec.json.decode(answer.data)
    except (urllib3.exceptions.HTTPError, msgspec.DecodeError):
        return []
    refused = [f"refused: {name}: {why}" for name, why in (content.get("refused") or {}).items()]
    missing = [f"missing: {name}: {why}" for name, why in (content.get("missing") or {}).items()]
    return refused + missing


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
