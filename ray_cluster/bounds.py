"""A RayService's minimum and maximum of worker pods, brought to the Ray clusters that live from it.

KubeRay ignores a change of these alone: it neither makes a new cluster for it nor edits the live
one. In Git-driven operation a pod with the right to do this, and little else, runs after each sync.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.errors import ClusterError
from ray_cluster.objects import RAY, Manifest, Ref
from ray_cluster.rayservice import WorkerGroup, read_cluster, read_service
from ray_cluster.release import live_service


class Brought(msgspec.Struct, frozen=True):
    """``changed`` holds a line for each worker group that had other bounds."""

    service: str
    namespace: str
    changed: list[str]


def bring_bounds(cluster: Cluster, name: str) -> Brought:
    """Patches what differs; a cluster or a group that is gone meanwhile is left out.

    :raises ClusterError: no such RayService, or the account may not.
    """
    manifest = live_service(cluster, name)
    if manifest is None:
        raise ClusterError(f"no RayService {name} in namespace {cluster.namespace}")
    service = read_service(manifest)
    groups = service.spec.ray_cluster_config.worker_group_specs
    wanted = {group.group_name: group for group in groups}
    status = service.status
    names = {status.active_service_status.ray_cluster_name}
    names.add(status.pending_service_status.ray_cluster_name)
    changed = [line for each in sorted(names - {""}) for line in _bring_to(cluster, each, wanted)]
    return Brought(name, cluster.namespace, changed)


def _bring_to(cluster: Cluster, name: str, wanted: dict[str, WorkerGroup]) -> Iterator[str]:
    live = cluster.get(Ref(RAY, "RayCluster", name, cluster.namespace))
    if live is None:
        return
    for at, group in enumerate(read_cluster(live).spec.worker_group_specs):
        target = wanted.get(group.group_name, group)
        if (group.min_replicas, group.max_replicas) != (target.min_replicas, target.max_replicas):
            _patch(cluster, live, at, target)
            yield (
                f"RayCluster {name}, group {group.group_name}: "
                f"{group.min_replicas}:{group.max_replicas} to "
                f"{target.min_replicas}:{target.max_replicas}"
            )


def _patch(cluster: Cluster, live: Manifest, at: int, target: WorkerGroup) -> None:
    path = f"/spec/workerGroupSpecs/{at}"
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": f"{path}/groupName", "value": target.group_name},
        {"op": "add", "path": f"{path}/minReplicas", "value": target.min_replicas},
        {"op": "add", "path": f"{path}/maxReplicas", "value": target.max_replicas},
    ]
    cluster.patch(Ref.of(live), operations)
