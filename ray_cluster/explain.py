"""Why a RayService is not ready: what a person would look for, most telling first."""

from collections.abc import Iterator, Sequence

from ray_cluster.health import failure
from ray_cluster.rayservice import RayService
from ray_cluster.sightings import Complaint, Pod

PATIENCE_S = 3
"""Seconds within which an operator has looked at a change; KubeRay's does within one."""


def explain(
    service: RayService, pods: Sequence[Pod], warnings: Sequence[Complaint], waited_s: float
) -> list[str]:
    """A line for each thing that is seen to be in the way; empty if nothing is."""
    return [
        *_operator(service, waited_s),
        *_conditions(service),
        *_applications(service),
        *_pods(pods),
        *_no_application(service, pods),
        *(f"{w.object}: {w.reason}: {w.message} ({w.at}, {w.count} x)" for w in warnings[:3]),
    ]


def _operator(service: RayService, waited_s: float) -> Iterator[str]:
    status, now = service.status, service.metadata.generation
    if (status.observed_generation or 0) >= now or waited_s < PATIENCE_S:
        return
    seen = f"has seen more than change {status.observed_generation} of {now}"
    if not status.observed_generation:
        seen = "has looked at it yet"
    yield f"no operator {seen}: is KubeRay's running? kubectl get pods -A | grep kuberay-operator"


def _conditions(service: RayService) -> Iterator[str]:
    for condition in service.status.conditions:
        if condition.type == "Ready" and condition.status != "True":
            yield f"the operator says {condition.reason}: {condition.message or 'no message'}"


def _applications(service: RayService) -> Iterator[str]:
    status = service.status
    for cluster in (status.active_service_status, status.pending_service_status):
        for name, application in cluster.application_statuses.items():
            if application.status != "RUNNING":
                where = f"application {name} on {cluster.ray_cluster_name}"
                yield f"{where} is {application.status or 'not known yet'}: {failure(application)}"


def _no_application(service: RayService, pods: Sequence[Pod]) -> Iterator[str]:
    """The operator hands Serve its config once the head is ready; what Serve answers to that stands
    in the operator's log and the head's alone."""
    pending = service.status.pending_service_status
    heads = [pod for pod in pods if pod.role == "head" and pod.cluster == pending.ray_cluster_name]
    if any(pod.ready for pod in heads) and not pending.application_statuses:
        where = "'sentinel cluster logs head', and the log of KubeRay's operator"
        yield f"the head of {pending.ray_cluster_name} is ready and has no application yet: {where}"


def _pods(pods: Sequence[Pod]) -> Iterator[str]:
    for pod in pods:
        if pod.trouble:
            restarts = f", {pod.restarts} restarts" if pod.restarts else ""
            yield f"pod {pod.name} ({pod.role}{restarts}): {pod.trouble}"
        elif not pod.ready:
            yield f"pod {pod.name} ({pod.role}): {pod.phase}, not ready yet"
