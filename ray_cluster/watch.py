"""One object, followed: through changes, silence, an API server that restarts, and a history that
the server has forgotten (410)."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

from ray_cluster.api import Cluster, asked
from ray_cluster.errors import CannotReach, ClusterError, RefusedByCluster
from ray_cluster.objects import Manifest, Ref

GONE = 410
"""The server's word for: that version is too long ago, list again."""

IDLE_S = 3
"""Seconds of silence after which the last state is given again, so that whoever follows can look at
the clock and at other things."""

BUSY = 429
"""The server's word for: ask again; also while it reads its stores after a start."""

STARTING_S = 15.0
"""Seconds after a server was not ready in which its refusals may come of its start."""

RETRY_S = 1.0
"""Seconds between two tries to reach a server that does not answer."""


class Sight(msgspec.Struct, frozen=True):
    """The object as last seen, None where there is none. ``unreachable`` is why nobody answers now,
    "" while someone does; ``changed`` is False where only time has passed."""

    manifest: Manifest | None
    changed: bool = True
    unreachable: str = ""


def follow(cluster: Cluster, ref: Ref, since: str | None = None) -> Iterator[Sight]:
    """The object as it is, then each change, and a sight each ``IDLE_S`` in which there was none,
    for as long as the caller asks. ``since`` is a resourceVersion to begin from, not with a list.

    :raises RefusedByCluster: the account may not read it.
    """
    last = Sight(None)
    starting_until = 0.0
    while True:
        try:
            if since is None:
                found = cluster.listing(ref.api_version, ref.kind, **_only(ref))
                since = found["metadata"]["resourceVersion"]
                last = Sight(next(iter(found["items"]), None))
                yield last
            for event in _events(cluster, ref, since):
                since, last = _after(event)
                yield last
            yield msgspec.structs.replace(last, changed=False, unreachable="")
        except _Forgotten:
            since = None
        except ClusterError as error:
            now = time.monotonic()
            if _not_ready(error):
                starting_until = now + STARTING_S
            elif now > starting_until or not _knows_little(error):
                raise
            yield msgspec.structs.replace(last, changed=False, unreachable=str(error))
            time.sleep(RETRY_S)


class _Forgotten(Exception):
    """The server no longer has what happened since the version asked for."""


def _events(cluster: Cluster, ref: Ref, since: str) -> Iterator[dict[str, Any]]:
    """What happened since, for ``IDLE_S``; the server ends it then."""
    resource = cluster.resource(ref)
    stream = Watch().stream(
        resource.get,
        namespace=ref.namespace or cluster.namespace,
        resource_version=since,
        timeout_seconds=IDLE_S,
        serialize=False,
        _request_timeout=IDLE_S + 10,
        **_only(ref),
    )
    while True:
        try:
            event = asked(f"following {ref}", lambda: next(stream, None))
        except RefusedByCluster as error:
            if isinstance(error.__cause__, ApiException) and error.__cause__.status == GONE:
                raise _Forgotten from error
            raise
        if event is None:
            return
        yield event


def _not_ready(error: ClusterError) -> bool:
    """Nobody answers, or a server that fills its stores (429, 5xx), or what stands before it."""
    return isinstance(error, CannotReach) or _status(error) == BUSY or _status(error) >= 500


def _knows_little(error: ClusterError) -> bool:
    """As a server that has just started: for a moment it knows no kinds (404) and no account's
    rights (403)."""
    return _status(error) in (403, 404)


def _status(error: ClusterError) -> int:
    cause = error.__cause__
    return (cause.status or 0) if isinstance(cause, ApiException) else 0


def _after(event: dict[str, Any]) -> tuple[str, Sight]:
    manifest = event["raw_object"]
    gone = event["type"] == "DELETED"
    return manifest["metadata"]["resourceVersion"], Sight(None if gone else manifest)


def _only(ref: Ref) -> dict[str, str]:
    return {"field_selector": f"metadata.name={ref.name}"}
