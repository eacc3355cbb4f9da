"""What the tests do to a cluster that the product does not: status by hand, other people's edits,
accounts, and an API server that goes away and comes back."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client

from ray_cluster.api import Cluster, connect
from ray_cluster.objects import RAY, Manifest, Ref, ray_service
from ray_cluster.release import the_service
from ray_cluster.render import Release, render

Found = TypeVar("Found")

TRIAL = ("monitoring.enabled=false",)
"""Prometheus' kinds are not KubeRay's: a server with KubeRay's CRDs alone does not know them."""

OPERATOR = os.environ.get("KUBERAY_OPERATOR", "")
"""KubeRay's operator, where one runs: a program's path, or an image's name; "" where none does."""

ANOTHER_OPERATOR = "kueue.x-k8s.io/multikueue"
"""``managedBy`` of what KubeRay's operator, where one runs, is to leave to the tests."""

BESIDE = Path(__file__).parents[3] / "shared" / "services" / "kube" / "up"
UP = Path(os.environ.get("KUBE_UP", BESIDE))
"""What started the API server, and starts it again."""


def kubernetes_version() -> str:
    return str(client.VersionApi(connect(None, None, None).api).get_code().git_version)


def trial_of(*settings: str) -> list[Manifest]:
    """The trial, left alone by an operator that runs: what it would do here is done by hand."""
    manifests = render(Release(settings=(*TRIAL, *settings)))
    if OPERATOR:
        spec = the_service(manifests)["spec"]
        spec["managedBy"] = spec["rayClusterConfig"]["managedBy"] = ANOTHER_OPERATOR
    return manifests


def eventually(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """What ``look`` finds within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def set_status(cluster: Cluster, ref: Ref, status: Manifest) -> None:
    """As the operator does it: the status subresource, by a field manager of its own."""
    resource = cluster.resource(ref)
    live = cluster.get(ref)
    assert live is not None
    resource.subresources["status"].replace(
        body=live | {"status": status},
        name=ref.name,
        namespace=cluster.namespace,
        field_manager="operator-by-hand",
        serialize=False,
    )


def edit(cluster: Cluster, ref: Ref, operations: list[dict[str, Any]], manager: str) -> None:
    """A JSON patch by someone else."""
    cluster.resource(ref).patch(
        body=operations,
        name=ref.name,
        namespace=cluster.namespace,
        content_type="application/json-patch+json",
        field_manager=manager,
        serialize=False,
    )


def status_of(
    cluster: Cluster,
    name: str = "sentinel",
    *,
    ready: str = "True",
    reason: str = "NonZeroServeEndpoints",
    application: str = "RUNNING",
    message: str = "",
    on: str = "sentinel-live",
    seen: int | None = None,
) -> Manifest:
    """A status such as KubeRay 1.7 writes; of the newest change unless ``seen`` says which."""
    live = cluster.get(ray_service(name, cluster.namespace))
    assert live is not None
    now = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": ""}
    deployments = {"FraudRouter": {"status": "HEALTHY"}, "XGBoost": {"status": "HEALTHY"}}
    said = {"status": application, "message": message, "serveDeploymentStatuses": deployments}
    return {
        "observedGeneration": seen or live["metadata"]["generation"],
        "conditions": [condition | {"lastTransitionTime": now}],
        "numServeEndpoints": 1,
        "activeServiceStatus": {
            "rayClusterName": on,
            "applicationStatuses": {"sentinel": said},
        },
    }


def make_ray_cluster(
    cluster: Cluster, service: str = "sentinel", name: str = "sentinel-live"
) -> Ref:
    """A RayCluster as the operator makes it from the RayService's own spec."""
    live = cluster.get(ray_service(service, cluster.namespace))
    assert live is not None
    labels = {"ray.io/originated-from-cr-name": service}
    cluster.create(
        {
            "apiVersion": RAY,
            "kind": "RayCluster",
            "metadata": {"name": name, "labels": labels},
            "spec": live["spec"]["rayClusterConfig"],
        }
    )
    return Ref(RAY, "RayCluster", name)


def account(cluster: Cluster, name: str, rules: list[dict[str, Any]] | None = None) -> Cluster:
    """The cluster as a service account sees it, by a token of its own; ``rules`` are what its Role
    allows, and without them it has none."""
    if cluster.get(Ref("v1", "ServiceAccount", name)) is None:
        cluster.create(_named("v1", "ServiceAccount", name))
    if rules is not None:
        group = "rbac.authorization.k8s.io"
        cluster.create(_named(f"{group}/v1", "Role", name) | {"rules": rules})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
        role = {"apiGroup": group, "kind": "Role", "name": name}
        bound = {"roleRef": role, "subjects": [subject]}
        cluster.create(_named(f"{group}/v1", "RoleBinding", name) | bound)
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
    )
    core = client.CoreV1Api(cluster.api)
    issued = core.create_namespaced_service_account_token(name, cluster.namespace, request)
    settings = client.Configuration()
    settings.host = cluster.api.configuration.host
    settings.ssl_ca_cert = cluster.api.configuration.ssl_ca_cert
    settings.api_key = {"BearerToken": f"Bearer {issued.status.token}"}
    return Cluster(client.ApiClient(settings), cluster.namespace)


def _named(api_version: str, kind: str, name: str) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


def why_no_restart() -> str:
    """Why this API server cannot be restarted from here; "" if it can."""
    if not _pid_file().exists():
        return f"no {_pid_file()}: the API server is not one that shared/services/kube/up started"
    return "" if UP.exists() else f"no {UP} to start it again"


def _pid_file() -> Path:
    return Path(os.environ["KUBECONFIG"]).parent / "kube-apiserver.pid"


@contextmanager
def api_server_down() -> Iterator[None]:
    """The API server ends at the start of the block, and is back, ready, at its end."""
    pid = int(_pid_file().read_text().split()[0])
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not _runs(pid), 90, "the API server has ended")
    try:
        yield
    finally:
        folder = str(_pid_file().parent)
        subprocess.run([str(UP), "--dir", folder], check=True, stdout=subprocess.DEVNULL)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
