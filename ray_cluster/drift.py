"""Where what runs is not what was asked for. Two gaps, each with another remedy:

- between a RayService and the Ray cluster it runs on: KubeRay never brings a changed minimum or
  maximum of a worker group to a cluster that lives; ``scale`` does.
- between a release and the objects in the cluster: someone edited them; ``deploy`` takes it back.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.differences import Difference, differences
from ray_cluster.objects import RAY, Manifest, Ref
from ray_cluster.rayservice import RayService, read_service

OPERATOR_S_OWN = ("replicas", "scaleStrategy")
"""Keys of a worker group that Ray's autoscaler writes into the live cluster, minute by minute."""

SERVER_S_OWN = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
"""Keys of an object's metadata that the API server writes."""


class Drift(msgspec.Struct, frozen=True):
    """One object that is not as it should be."""

    object: str
    against: str
    differences: list[Difference]


def cluster_drift(cluster: Cluster, service_manifest: Manifest) -> list[Drift]:
    """The RayService's ``rayClusterConfig`` against the live RayCluster's spec; while an upgrade
    is under way, against the new one's."""
    name = serving_cluster(read_service(service_manifest))
    if name is None:
        return []
    live = cluster.get(Ref(RAY, "RayCluster", name, cluster.namespace))
    if live is None:
        gone = [Difference("", None, "the cluster that the RayService's status names")]
        return [Drift(f"RayCluster {name}", "RayService", gone)]
    wanted = _comparable(service_manifest["spec"]["rayClusterConfig"])
    found = list(differences(_comparable(live["spec"]), wanted, "spec"))
    return [Drift(f"RayCluster {name}", "RayService", found)] if found else []


def serving_cluster(service: RayService) -> str | None:
    """The name of the Ray cluster that is to be as the RayService says now."""
    status = service.status
    pending = status.pending_service_status.ray_cluster_name
    return pending or status.active_service_status.ray_cluster_name or None


def release_drift(cluster: Cluster, manifests: Sequence[Manifest], against: str) -> list[Drift]:
    """These objects against the cluster's own, by a server-side dry run: what would applying them
    change? ``against`` says what they are."""
    return list(_release_drift(cluster, manifests, against))


def _release_drift(
    cluster: Cluster, manifests: Sequence[Manifest], against: str
) -> Iterator[Drift]:
    for manifest in manifests:
        ref = Ref.of(manifest)
        live = cluster.get(ref)
        if live is None:
            yield Drift(str(ref), against, [Difference("", None, "the object")])
            continue
        would_be = cluster.apply(manifest, dry_run=True, force=True)
        found = list(differences(_settled(live), _settled(would_be)))
        if found:
            yield Drift(str(ref), against, found)


def _settled(manifest: Manifest) -> Manifest:
    """Without what the server and controllers write."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in SERVER_S_OWN}
    return {k: v for k, v in manifest.items() if k != "status"} | {"metadata": metadata}


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    groups = [
        {key: value for key, value in group.items() if key not in OPERATOR_S_OWN}
        for group in spec.get("workerGroupSpecs") or []
    ]
    return spec | {"workerGroupSpecs": groups}
