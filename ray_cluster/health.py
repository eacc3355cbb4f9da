"""One word for how a RayService is, and why: for people, ``wait``, and whoever else must decide.

``Ready`` of the operator only means that some endpoint is there; it stays True when a change of the
Serve config in place has failed. So the applications are read too.
"""

from enum import StrEnum

import msgspec

from ray_cluster.rayservice import ApplicationStatus, RayService, RayServiceStatus

FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
"""What Serve calls an application that does not become well by waiting."""

GIVEN_UP = ("ValidationFailed", "InitializingTimeout")
"""Reasons of the operator's for not going on until the resource is changed, or made again."""


class Word(StrEnum):
    """Argo CD's words, which people who deploy by Git know."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


class Health(msgspec.Struct, frozen=True):
    """``reason`` is a sentence."""

    word: Word
    reason: str


def health(service: RayService) -> Health:
    """How it is, by the operator's status."""
    status = service.status
    return (
        _unseen(service)
        or _suspended(service)
        or _given_up(status)
        or _failed_application(status)
        or _upgrading(status)
        or _by_endpoints(status)
    )


def _unseen(service: RayService) -> Health | None:
    seen, now = service.status.observed_generation, service.metadata.generation
    if not seen and not service.status.conditions:
        return Health(Word.PROGRESSING, "no operator has looked at it yet")
    if seen is not None and seen < now:
        change = f"the operator has seen change {seen}, this is change {now}"
        return Health(Word.PROGRESSING, change)
    return None


def _suspended(service: RayService) -> Health | None:
    if service.spec.suspend or any(map(service.status.holds, ("Suspended", "Suspending"))):
        return Health(Word.SUSPENDED, "it is suspended: spec.suspend is true, or has just been")
    return None


def _given_up(status: RayServiceStatus) -> Health | None:
    for condition in status.conditions:
        if condition.reason in GIVEN_UP:
            return Health(Word.DEGRADED, f"{condition.reason}: {condition.message or 'no message'}")
    return None


def _failed_application(status: RayServiceStatus) -> Health | None:
    # A cluster that is still coming up may be UNHEALTHY for a moment; a failed deploy stays so.
    active, pending = status.active_service_status, status.pending_service_status
    for which, cluster, words in (("", active, FAILED), ("new ", pending, FAILED[:1])):
        for name, application in cluster.application_statuses.items():
            if application.status in words:
                what = f"{which}application {name} {application.status}"
                return Health(Word.DEGRADED, f"{what}: {failure(application)}")
    return None


def failure(application: ApplicationStatus) -> str:
    """The last line of what Serve says of it, or of a deployment of its that is not well."""
    messages = [application.message]
    for name, deployment in application.serve_deployment_statuses.items():
        if deployment.message and deployment.status != "HEALTHY":
            messages.append(f"{name}: {_last_line(deployment.message)}")
    said = [_last_line(message) for message in messages if message.strip()]
    return said[-1] if said else "Serve gives no message"


def _last_line(text: str) -> str:
    """A traceback ends with what happened."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _upgrading(status: RayServiceStatus) -> Health | None:
    for name, doing in (("RollbackInProgress", "going back"), ("UpgradeInProgress", "moving")):
        if status.holds(name):
            new = status.pending_service_status.ray_cluster_name or "a new one"
            old = status.active_service_status.ray_cluster_name
            return Health(Word.PROGRESSING, f"{doing} from cluster {old} to {new}")
    return None


def _by_endpoints(status: RayServiceStatus) -> Health:
    ready = status.condition("Ready")
    waiting = [
        f"application {name} is {application.status or 'not known yet'}"
        for name, application in status.active_service_status.application_statuses.items()
        if application.status != "RUNNING"
    ]
    if ready is not None and ready.status == "True":
        if waiting:
            return Health(Word.PROGRESSING, "; ".join(waiting))
        return Health(Word.HEALTHY, f"{status.num_serve_endpoints} pods answer requests")
    if ready is not None and ready.reason == "ZeroServeEndpoints":
        return Health(Word.DEGRADED, ready.message or "no pod answers requests")
    said = (ready.message or ready.reason) if ready else "the operator has not said Ready yet"
    return Health(Word.PROGRESSING, "; ".join(waiting) or said)
