"""What was applied before: the newest ten releases of a RayService, kept in the cluster itself.

A revision is a ControllerRevision, Kubernetes' own kind for the history of a controller's object
(StatefulSets keep theirs so): immutable, numbered, owned by the RayService and gone with it. It
holds every object of the release but Secrets, which whoever may read revisions need not see.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.errors import ClusterError
from ray_cluster.objects import Manifest, Ref, ray_service

KEPT = 10
"""Revisions of a release that are kept, as Kubernetes keeps a StatefulSet's."""

API_VERSION, KIND = "apps/v1", "ControllerRevision"


class Revision(msgspec.Struct, frozen=True):
    """``note`` says what made it; ``made`` is RFC 3339."""

    number: int
    note: str
    made: str
    manifests: list[Manifest]


def revisions(cluster: Cluster, service: str) -> list[Revision]:
    """Those of this RayService, oldest first."""
    found = cluster.objects(API_VERSION, KIND, _selector(service))
    return sorted(map(_read, found), key=lambda revision: revision.number)


def record(cluster: Cluster, service: str, manifests: Sequence[Manifest], note: str) -> int:
    """The number of the revision that holds these, a new one unless they are the newest's.

    :raises ClusterError: no such RayService, or the account may not make revisions.
    """
    kept = [m for m in manifests if m["kind"] != "Secret"]
    earlier = revisions(cluster, service)
    if earlier and earlier[-1].manifests == kept:
        return earlier[-1].number
    number = earlier[-1].number + 1 if earlier else 1
    cluster.create(_manifest(cluster, service, number, note, kept))
    for old in earlier[: max(0, len(earlier) + 1 - KEPT)]:
        cluster.delete(Ref(API_VERSION, KIND, _name(service, old.number)))
    return number


def choose(known: Sequence[Revision], service: str, number: int | None) -> Revision:
    """The revision of this number; without one, the one before the newest.

    :raises ClusterError: there is none; says which there are.
    """
    if number is None and len(known) > 1:
        return known[-2]
    for revision in known:
        if revision.number == number:
            return revision
    wanted = "earlier revision" if number is None else f"revision {number}"
    have = ", ".join(str(revision.number) for revision in known) or "none"
    raise ClusterError(
        f"RayService {service} has no {wanted}; known: {have} (each deploy and scale makes one)"
    )


def leftovers(old: Sequence[Manifest], new: Sequence[Manifest]) -> list[Ref]:
    """Objects of the older release that the newer has no more, claims of storage left out: what is
    on them is not a release's to remove."""
    stay = {Ref.of(m) for m in new}
    gone = [Ref.of(m) for m in old if Ref.of(m) not in stay]
    return [ref for ref in gone if ref.kind != "PersistentVolumeClaim"]


def _manifest(
    cluster: Cluster, service: str, number: int, note: str, kept: list[Manifest]
) -> Manifest:
    owner = cluster.get(ray_service(service, cluster.namespace))
    if owner is None:
        raise ClusterError(f"no RayService {service} in {cluster.namespace} to keep a revision of")
    metadata = {
        "name": _name(service, number),
        "labels": _labels(service),
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": service,
                "uid": owner["metadata"]["uid"],
            }
        ],
    }
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "revision": number,
        "data": {"note": note, "made": made, "manifests": kept},
    }


def _read(manifest: dict[str, Any]) -> Revision:
    try:
        return msgspec.convert({**manifest["data"], "number": manifest["revision"]}, Revision)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        name = manifest["metadata"]["name"]
        raise ClusterError(f"ControllerRevision {name} is none of ours: {error}") from error


def _name(service: str, number: int) -> str:
    return f"{service}-revision-{number}"


def _labels(service: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/instance": service,
        "app.kubernetes.io/component": "revision",
        "app.kubernetes.io/managed-by": "sentinel",
    }


def _selector(service: str) -> str:
    return ",".join(f"{key}={value}" for key, value in _labels(service).items())
