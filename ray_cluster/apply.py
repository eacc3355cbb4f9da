"""Server-side apply of a whole release: checked to the last object, then applied in order."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from kubernetes.client.exceptions import ApiException

from ray_cluster.api import FIELD_MANAGER, Cluster
from ray_cluster.errors import ClusterError, RefusedByCluster
from ray_cluster.objects import Manifest, Ref, in_order

OnObject = Callable[[str], None]


def check_all(cluster: Cluster, manifests: Sequence[Manifest], *, force: bool = False) -> None:
    """A server-side dry run of every object: schemas, admission, rights and conflicts, all the
    refusals at once; nothing is changed.

    :raises RefusedByCluster: with a line for each object that the server would not take.
    """
    refusals = []
    for manifest in in_order(manifests):
        try:
            apply_one(cluster, manifest, dry_run=True, force=force)
        except ClusterError as error:
            refusals.append(f"{Ref.of(manifest)}: {_without_doing(error)}")
    if refusals:
        raise RefusedByCluster("nothing was applied", refusals)


def apply_all(
    cluster: Cluster,
    manifests: Sequence[Manifest],
    *,
    force: bool = False,
    on_object: OnObject = lambda _: None,
) -> None:
    """Applies what ``check_all`` has passed, the RayService last.

    :raises RefusedByCluster: the server refused one after all; those before it are applied.
    """
    for manifest in in_order(manifests):
        on_object(str(Ref.of(manifest)))
        apply_one(cluster, manifest, force=force)


def apply_one(
    cluster: Cluster, manifest: Manifest, *, dry_run: bool = False, force: bool = False
) -> Manifest:
    """One object, as the server has it now. Fields that the operator owns, or we ourselves by
    ``scale``, are taken over: the operator becomes owner of a RayService's worker groups by writing
    defaults into them. Anyone else's are a conflict, which ``force`` settles.

    :raises RefusedByCluster: the server refused it, or someone else owns a field.
    """
    try:
        return cluster.apply(manifest, dry_run=dry_run, force=force)
    except RefusedByCluster as error:
        owners = _owners_in_conflict(error)
        if not owners:
            raise
        ref = Ref.of(manifest)
        others = owners.keys() - _expected_owners(cluster.get(ref))
        if others:
            raise RefusedByCluster("changed by others", [_conflict(owners, others)]) from error
        return cluster.apply(manifest, dry_run=dry_run, force=True)


def _owners_in_conflict(error: RefusedByCluster) -> dict[str, list[str]]:
    """Fields in conflict by owner, from the server's answer; empty if it is another refusal."""
    cause = error.__cause__
    if not isinstance(cause, ApiException) or cause.status != 409:
        return {}
    try:
        causes = json.loads(cause.body or "")["details"]["causes"]
    except (ValueError, KeyError, TypeError):
        return {}
    owners: dict[str, list[str]] = {}
    for each in causes:
        if each.get("reason") == "FieldManagerConflict":
            # conflict with "kubectl-edit" using ray.io/v1
            owner = str(each["message"]).split('"')[1]
            owners.setdefault(owner, []).append(str(each["field"]))
    return owners


def _expected_owners(live: Manifest | None) -> set[str]:
    """Ourselves, and whoever writes the object's status: its controller."""
    managed: list[dict[str, Any]] = (live or {}).get("metadata", {}).get("managedFields", [])
    return {FIELD_MANAGER} | {m["manager"] for m in managed if m.get("subresource") == "status"}


def _conflict(owners: dict[str, list[str]], others: set[str]) -> str:
    said = [f"{', '.join(owners[owner])} set by {owner!r}" for owner in sorted(others)]
    return f"{'; '.join(said)}: put it into the values, or take it back with --force"


def _without_doing(error: ClusterError) -> str:
    """A refusal's own line says which object already."""
    return error.refusals[0] if isinstance(error, RefusedByCluster) else str(error)
