"""A RayService and a RayCluster as KubeRay 1.7 writes them: the fields that are read here, typed.

Names are those of the resource in snake case. Whatever else an object holds stays in its manifest.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ray_cluster.errors import ClusterError


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """What is not there has the default; what is there and not named is not read."""


class Condition(_Read, frozen=True):
    """One of Kubernetes' own conditions. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int | None = None


class DeploymentStatus(_Read, frozen=True):
    """One Serve deployment as the operator saw it last."""

    status: str = ""
    message: str = ""


class ApplicationStatus(_Read, frozen=True):
    """One Serve application. ``status`` is Serve's own: RUNNING, DEPLOYING, DEPLOY_FAILED, …"""

    status: str = ""
    message: str = ""
    serve_deployment_statuses: dict[str, DeploymentStatus] = {}


class HeadInfo(_Read, frozen=True):
    """Where a cluster's head is."""

    pod_name: str = ""
    service_name: str = ""


class RayClusterStatus(_Read, frozen=True):
    """Counts of worker pods and the state of the cluster as a whole."""

    state: str = ""
    reason: str = ""
    head: HeadInfo = HeadInfo()
    desired_worker_replicas: int = 0
    ready_worker_replicas: int = 0


class ClusterInUse(_Read, frozen=True):
    """A Ray cluster that a RayService runs on (active), or is about to (pending)."""

    ray_cluster_name: str = ""
    application_statuses: dict[str, ApplicationStatus] = {}
    target_capacity: int | None = None
    traffic_routed_percent: int | None = None
    ray_cluster_status: RayClusterStatus = RayClusterStatus()


class RayServiceStatus(_Read, frozen=True):
    """What the operator says of a RayService."""

    conditions: list[Condition] = []
    observed_generation: int | None = None
    num_serve_endpoints: int = 0
    active_service_status: ClusterInUse = ClusterInUse()
    pending_service_status: ClusterInUse = ClusterInUse()

    def condition(self, name: str) -> Condition | None:
        """The condition of this type, None where the operator has not set it."""
        return next((c for c in self.conditions if c.type == name), None)

    def holds(self, name: str) -> bool:
        """Whether this condition is True."""
        found = self.condition(name)
        return found is not None and found.status == "True"


class WorkerGroup(_Read, frozen=True):
    """Worker pods of one kind. The bounds are those of the resource's schema where none is set."""

    group_name: str
    replicas: int = 0
    min_replicas: int = 0
    max_replicas: int = 2**31 - 1


class RayClusterSpec(_Read, frozen=True):
    """What a Ray cluster is to be."""

    ray_version: str = ""
    worker_group_specs: list[WorkerGroup] = []
    head_group_spec: dict[str, Any] = {}


class UpgradeStrategy(_Read, frozen=True):
    """How a change of the pods is brought in."""

    type: str = "NewCluster"


class RayServiceSpec(_Read, frozen=True):
    """What a RayService is to be."""

    ray_cluster_config: RayClusterSpec = RayClusterSpec()
    serve_config: str = msgspec.field(default="", name="serveConfigV2")
    upgrade_strategy: UpgradeStrategy = UpgradeStrategy()
    suspend: bool = False


class Metadata(_Read, frozen=True):
    """Of any object."""

    name: str
    namespace: str = ""
    generation: int = 0
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class RayService(_Read, frozen=True):
    """A RayService."""

    metadata: Metadata
    spec: RayServiceSpec = RayServiceSpec()
    status: RayServiceStatus = RayServiceStatus()


class RayCluster(_Read, frozen=True):
    """A RayCluster."""

    metadata: Metadata
    spec: RayClusterSpec = RayClusterSpec()


def read_service(manifest: Mapping[str, Any]) -> RayService:
    """:raises ClusterError: it is none that KubeRay 1.7 would write; says where."""
    return _read(manifest, RayService)


def read_cluster(manifest: Mapping[str, Any]) -> RayCluster:
    """:raises ClusterError: it is none that KubeRay 1.7 would write; says where."""
    return _read(manifest, RayCluster)


def _read(manifest: Mapping[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(manifest, kind)
    except msgspec.ValidationError as error:
        raise ClusterError(
            f"{kind.__name__} {manifest.get('metadata', {}).get('name')}: {error}, "
            "expected the fields of KubeRay's ray.io/v1"
        ) from error
