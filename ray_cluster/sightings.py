"""What stands around a RayService: its pods, and the last warnings about them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.objects import Manifest
from ray_cluster.rayservice import RayService

WARNINGS = 8
"""Warnings shown at most, the newest."""


class Pod(msgspec.Struct, frozen=True):
    """``role`` is head, worker or another part of the release; ``trouble`` is "" for a pod that is
    well, and otherwise what the kubelet or the scheduler says."""

    name: str
    role: str
    cluster: str
    phase: str
    ready: bool
    restarts: int
    node: str
    image: str
    container: str
    group: str = ""
    trouble: str = ""


class Complaint(msgspec.Struct, frozen=True):
    """One warning of the cluster's; ``at`` is RFC 3339, of the last time."""

    at: str
    object: str
    reason: str
    message: str
    count: int = 1


def pods(cluster: Cluster, service: RayService) -> list[Pod]:
    """Of the Ray clusters it runs on, and the release's others (Redis); heads first."""
    name = service.metadata.name
    names = clusters_of(service)
    found = {p["metadata"]["name"]: p for p in cluster.objects("v1", "Pod", f"{INSTANCE}={name}")}
    for ray_cluster in names:
        for pod in cluster.objects("v1", "Pod", f"ray.io/cluster={ray_cluster}"):
            found[pod["metadata"]["name"]] = pod
    order = {"head": 0, "worker": 1}
    views = [pod_of(manifest) for manifest in found.values()]
    return sorted(views, key=lambda pod: (pod.cluster, order.get(pod.role, 2), pod.name))


INSTANCE = "app.kubernetes.io/instance"
"""Label that helm's charts put on what belongs to a release."""


def clusters_of(service: RayService) -> list[str]:
    """Names of the Ray clusters that it runs on, active before pending."""
    status = service.status
    both = (status.active_service_status, status.pending_service_status)
    return list(dict.fromkeys(c.ray_cluster_name for c in both if c.ray_cluster_name))


def pod_of(manifest: Manifest) -> Pod:
    """A Pod's manifest in short."""
    labels = manifest["metadata"].get("labels") or {}
    status = manifest.get("status") or {}
    containers = status.get("containerStatuses") or []
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    phase = "Terminating" if manifest["metadata"].get("deletionTimestamp") else status.get("phase")
    ready = conditions.get("Ready", {}).get("status") == "True"
    return Pod(
        name=manifest["metadata"]["name"],
        role=labels.get("ray.io/node-type") or labels.get("app.kubernetes.io/component") or "other",
        cluster=labels.get("ray.io/cluster", ""),
        phase=phase or "Pending",
        ready=ready,
        restarts=sum(c.get("restartCount", 0) for c in containers),
        node=manifest["spec"].get("nodeName", ""),
        image=manifest["spec"]["containers"][0]["image"],
        container=manifest["spec"]["containers"][0]["name"],
        group=labels.get("ray.io/group", ""),
        trouble="" if ready else _trouble(status, conditions),
    )


def _trouble(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> str:
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return f"no node takes it: {placed.get('message', placed.get('reason', 'no reason given'))}"
    started = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    for container in started:
        said = _of_container(container)
        if said:
            return f"{container['name']}: {said}"
    return str(status.get("message") or "")


def _of_container(container: Mapping[str, Any]) -> str:
    waiting = container.get("state", {}).get("waiting")
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    parts = []
    if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
        parts.append(": ".join(filter(None, [waiting.get("reason"), waiting.get("message")])))
    if ended and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
        parts.append(f"ended by {ended.get('reason', 'Error')}, exit code {ended.get('exitCode')}")
    if container.get("state", {}).get("running") and not container.get("ready"):
        parts.append("runs, and its readiness probe does not pass")
    return "; ".join(parts)


def warnings(cluster: Cluster, service: RayService, known: Iterable[Pod]) -> list[Complaint]:
    """The newest warnings about the RayService, its clusters and pods, newest first."""
    names = {service.metadata.name, *clusters_of(service), *(pod.name for pod in known)}
    events = cluster.listing("v1", "Event", field_selector="type=Warning")["items"]
    ours = [_warning(e) for e in events if _about(e) in names or _starts(e, service)]
    return sorted(ours, key=lambda warning: warning.at, reverse=True)[:WARNINGS]


def _about(event: Manifest) -> str:
    return str(event["involvedObject"].get("name", ""))


def _starts(event: Manifest, service: RayService) -> bool:
    """Objects that are gone again: pods and clusters are named after the service."""
    return _about(event).startswith(f"{service.metadata.name}-")


def _warning(event: Manifest) -> Complaint:
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    about = event["involvedObject"]
    return Complaint(
        at=str(at or event["metadata"].get("creationTimestamp") or ""),
        object=f"{about.get('kind', '')} {about.get('name', '')}".strip(),
        reason=event.get("reason") or "",
        message=" ".join((event.get("message") or "").split()),
        count=series.get("count") or event.get("count") or 1,
    )
