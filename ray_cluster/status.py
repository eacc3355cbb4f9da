"""Everything that a person asks of a running service, read once."""

from collections.abc import Sequence

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.argo import tracked_by
from ray_cluster.errors import ClusterError
from ray_cluster.health import health
from ray_cluster.objects import RAY, Manifest, Ref
from ray_cluster.rayservice import (
    ApplicationStatus,
    ClusterInUse,
    RayService,
    WorkerGroup,
    read_cluster,
    read_service,
)
from ray_cluster.release import live_service
from ray_cluster.revisions import Revision, revisions
from ray_cluster.serve_view import ServeApplication, serve_applications
from ray_cluster.sightings import Complaint, Pod, clusters_of, pods, warnings


class Versions(msgspec.Struct, frozen=True):
    """What runs. ``revision`` is of ``deploy``, None where the release came another way."""

    ray: str
    images: list[str]
    chart: str
    revision: int | None
    revision_note: str
    argo_application: str | None


class Upgrade(msgspec.Struct, frozen=True):
    """``to`` is "" while none is under way; shares are percent, None where nothing is shared."""

    strategy: str
    active: str
    to: str
    traffic_to_new: int | None
    capacity_of_new: int | None


class Deployment(msgspec.Struct, frozen=True):
    """One Serve deployment. ``running`` and ``target`` are None where the head does not answer."""

    name: str
    status: str
    running: int | None
    target: int | None
    message: str


class Application(msgspec.Struct, frozen=True):
    """One Serve application on one of the clusters."""

    name: str
    cluster: str
    status: str
    message: str
    deployments: list[Deployment]


class Group(msgspec.Struct, frozen=True):
    """Worker pods of a live cluster: the bounds that count are the live ones."""

    cluster: str
    name: str
    low: int
    high: int
    wanted: int
    ready: int


class Status(msgspec.Struct, frozen=True):
    """The whole page. ``unknown`` says what could not be read, and why."""

    service: str
    namespace: str
    health: str
    reason: str
    endpoints: int
    versions: Versions
    upgrade: Upgrade
    applications: list[Application]
    groups: list[Group]
    pods: list[Pod]
    warnings: list[Complaint]
    unknown: list[str]


def status(cluster: Cluster, name: str) -> Status:
    """:raises ClusterError: no such RayService, or the account may not read it."""
    manifest = live_service(cluster, name)
    if manifest is None:
        raise ClusterError(
            f"no RayService {name} in namespace {cluster.namespace}; "
            f"there {_names(cluster.objects(RAY, 'RayService'))}"
        )
    service = read_service(manifest)
    now, unknown = health(service), list[str]()
    around = pods(cluster, service)
    return Status(
        service=name,
        namespace=cluster.namespace,
        health=now.word,
        reason=now.reason,
        endpoints=service.status.num_serve_endpoints,
        versions=_versions(cluster, manifest, service, around, unknown),
        upgrade=_upgrade(service),
        applications=_applications(cluster, service, unknown),
        groups=_groups(cluster, service, around),
        pods=around,
        warnings=warnings(cluster, service, around),
        unknown=unknown,
    )


def _names(found: Sequence[Manifest]) -> str:
    names = ", ".join(m["metadata"]["name"] for m in found)
    return f"are {names}" if names else "is none"


def _versions(
    cluster: Cluster,
    manifest: Manifest,
    service: RayService,
    around: Sequence[Pod],
    unknown: list[str],
) -> Versions:
    known: list[Revision] = []
    try:
        known = revisions(cluster, service.metadata.name)
    except ClusterError as error:
        unknown.append(f"revisions: {error}")
    newest = known[-1] if known else None
    images = {pod.image for pod in around if pod.cluster}
    return Versions(
        ray=service.spec.ray_cluster_config.ray_version,
        images=sorted(images) or [_head_image(service)],
        chart=service.metadata.labels.get("helm.sh/chart", ""),
        revision=newest.number if newest else None,
        revision_note=newest.note if newest else "",
        argo_application=tracked_by(manifest),
    )


def _head_image(service: RayService) -> str:
    head = service.spec.ray_cluster_config.head_group_spec
    containers = head.get("template", {}).get("spec", {}).get("containers") or [{}]
    return str(containers[0].get("image", ""))


def _upgrade(service: RayService) -> Upgrade:
    active, pending = service.status.active_service_status, service.status.pending_service_status
    return Upgrade(
        strategy=service.spec.upgrade_strategy.type,
        active=active.ray_cluster_name,
        to=pending.ray_cluster_name,
        traffic_to_new=pending.traffic_routed_percent,
        capacity_of_new=pending.target_capacity,
    )


def _applications(cluster: Cluster, service: RayService, unknown: list[str]) -> list[Application]:
    found = []
    both = (service.status.active_service_status, service.status.pending_service_status)
    for used in both:
        if not used.ray_cluster_name:
            continue
        counted = _counted(cluster, used, unknown)
        for name, application in used.application_statuses.items():
            found.append(_application(name, used.ray_cluster_name, application, counted.get(name)))
    return found


def _counted(
    cluster: Cluster, used: ClusterInUse, unknown: list[str]
) -> dict[str, ServeApplication]:
    name = used.ray_cluster_name
    head = used.ray_cluster_status.head.service_name or f"{name}-head-svc"
    try:
        return {each.name: each for each in serve_applications(cluster, name, head)}
    except ClusterError as error:
        unknown.append(f"replicas on {name}: {error}")
        return {}


def _application(
    name: str, used: str, said: ApplicationStatus, counted: ServeApplication | None
) -> Application:
    replicas = {d.name: d for d in counted.deployments} if counted else {}
    deployments = []
    for each in dict.fromkeys([*replicas, *said.serve_deployment_statuses]):
        live, operators = replicas.get(each), said.serve_deployment_statuses.get(each)
        deployments.append(
            Deployment(
                name=each,
                status=live.status if live else (operators.status if operators else ""),
                running=live.running if live else None,
                target=live.target if live else None,
                message=live.message if live else (operators.message if operators else ""),
            )
        )
    return Application(name, used, said.status, said.message, deployments)


def _groups(cluster: Cluster, service: RayService, around: Sequence[Pod]) -> list[Group]:
    groups = []
    for name in clusters_of(service):
        live = cluster.get(Ref(RAY, "RayCluster", name, cluster.namespace))
        if live is not None:
            found = read_cluster(live).spec.worker_group_specs
            groups += [_group(name, group, around) for group in found]
    return groups


def _group(used: str, group: WorkerGroup, around: Sequence[Pod]) -> Group:
    name = group.group_name
    ready = sum(pod.ready for pod in around if (pod.cluster, pod.group) == (used, name))
    bounds = group.min_replicas, group.max_replicas
    return Group(used, name, *bounds, wanted=group.replicas, ready=ready)
