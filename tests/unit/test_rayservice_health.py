"""How a RayService is, from what KubeRay's operator writes into its status."""

from typing import Any

import pytest

from ray_cluster.errors import ClusterError
from ray_cluster.explain import explain
from ray_cluster.health import Health, Word, health
from ray_cluster.rayservice import read_service
from ray_cluster.sightings import Complaint, Pod


def service(
    *,
    ready: str | None = "True",
    reason: str = "NonZeroServeEndpoints",
    seen: int | None = 3,
    application: str = "RUNNING",
    message: str = "",
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """A RayService of generation 3 on one cluster; ``status`` lays more over it."""
    conditions = [] if ready is None else [condition("Ready", ready, reason)]
    active = {
        "rayClusterName": "sentinel-abc",
        "applicationStatuses": {"sentinel": {"status": application, "message": message}},
    }
    said: dict[str, Any] = {"activeServiceStatus": active, "numServeEndpoints": 2}
    if seen is not None:
        said["observedGeneration"] = seen
    return {
        "metadata": {"name": "sentinel", "generation": 3},
        "spec": spec or {},
        "status": said | {"conditions": conditions} | status,
    }


def condition(name: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": name, "status": status, "reason": reason, "message": message}


def health_of(manifest: dict[str, Any]) -> Health:
    return health(read_service(manifest))


def test_a_service_whose_applications_run_is_healthy() -> None:
    assert health_of(service()) == Health(Word.HEALTHY, "2 pods answer requests")


def test_ready_alone_is_not_enough() -> None:
    failed = service(application="DEPLOY_FAILED", message="Traceback:\n  …\nBundleError: no such")
    found = health_of(failed)
    assert found.word is Word.DEGRADED
    assert found.reason.endswith("BundleError: no such")


@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        (service(ready=None, seen=None), Word.PROGRESSING),
        (service(seen=2), Word.PROGRESSING),
        (service(spec={"suspend": True}), Word.SUSPENDED),
        (service(conditions=[condition("Suspending", "True", "x")]), Word.SUSPENDED),
        (service(ready="False", reason="ValidationFailed"), Word.DEGRADED),
        (service(ready="False", reason="InitializingTimeout"), Word.DEGRADED),
        (service(application="UNHEALTHY"), Word.DEGRADED),
        (service(ready="False", reason="ZeroServeEndpoints"), Word.DEGRADED),
        (service(ready="False", reason="Initializing"), Word.PROGRESSING),
        (service(application="DEPLOYING"), Word.PROGRESSING),
    ],
)
def test_each_state_has_its_word(manifest: dict[str, Any], word: Word) -> None:
    assert health_of(manifest).word is word


def upgrading(pending: str) -> dict[str, Any]:
    new = {
        "rayClusterName": "sentinel-new",
        "applicationStatuses": {"sentinel": {"status": pending}},
    }
    conditions = [
        condition("Ready", "True", "NonZeroServeEndpoints"),
        condition("UpgradeInProgress", "True", "BothActivePendingClustersExist"),
    ]
    return service(conditions=conditions, pendingServiceStatus=new)


def test_an_upgrade_is_progress_and_names_both_clusters() -> None:
    found = health_of(upgrading("DEPLOYING"))
    assert found.word is Word.PROGRESSING
    assert "sentinel-abc" in found.reason
    assert "sentinel-new" in found.reason


def test_an_upgrade_whose_new_application_failed_is_degraded() -> None:
    assert health_of(upgrading("DEPLOY_FAILED")).word is Word.DEGRADED


def test_a_new_application_may_be_unhealthy_while_it_comes_up() -> None:
    assert health_of(upgrading("UNHEALTHY")).word is Word.PROGRESSING


def test_a_status_of_another_form_is_refused_with_its_place() -> None:
    with pytest.raises(ClusterError, match=r"numServeEndpoints"):
        read_service(service(numServeEndpoints="two"))


def pod(**what: Any) -> Pod:
    base = {
        "name": "sentinel-abc-head",
        "role": "head",
        "cluster": "sentinel-abc",
        "phase": "Pending",
        "ready": False,
        "restarts": 0,
        "node": "",
        "image": "sentinelstream:0.1.0",
        "container": "ray-head",
    }
    return Pod(**base | what)


def test_the_explanation_names_the_pod_the_event_and_the_applications_message() -> None:
    manifest = service(ready="False", reason="Initializing", application="DEPLOYING", message="m1")
    warning = Complaint("2026-01-01T00:00:00Z", "Pod x", "FailedMount", "no such Secret", 4)
    found = "\n".join(
        explain(read_service(manifest), [pod(trouble="no node takes it: 3 CPUs")], [warning], 5)
    )
    assert "pod sentinel-abc-head (head): no node takes it: 3 CPUs" in found
    assert "FailedMount: no such Secret" in found
    assert "application sentinel on sentinel-abc is DEPLOYING: m1" in found


def test_a_ready_head_without_an_application_points_at_the_logs() -> None:
    pending = {"rayClusterName": "sentinel-new"}
    unserved = read_service(service(ready="False", pendingServiceStatus=pending))
    head = pod(cluster="sentinel-new", ready=True)
    told = "the head of sentinel-new is ready and has no application yet"
    assert any(told in line for line in explain(unserved, [head], [], 60))
    assert not any(
        told in line for line in explain(unserved, [pod(cluster="sentinel-new")], [], 60)
    )


def test_a_missing_operator_is_suspected_only_after_a_while() -> None:
    unseen = read_service(service(ready=None, seen=None))
    assert not any("no operator" in line for line in explain(unseen, [], [], 1))
    assert any("no operator has looked" in line for line in explain(unseen, [], [], 60))
