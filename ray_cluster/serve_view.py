"""Replicas as Serve counts them, which a RayService's status does not say: asked of the head's
dashboard through the API server's proxy, so that nothing is exposed for it."""

import base64
from typing import Any

import msgspec

from ray_cluster.api import Cluster, asked
from ray_cluster.errors import ClusterError
from ray_cluster.objects import RAY, Manifest, Ref

DASHBOARD_PORT = 8265
RAY_TOKEN_HEADER = "x-ray-authorization"
"""Ray's own, for askers behind a proxy that keeps ``Authorization`` for itself."""


class ServeDeployment(msgspec.Struct, frozen=True):
    """``running`` replicas of ``target``, ``maximum`` at most (None where it does not scale by
    itself); ``message`` is Serve's."""

    name: str
    status: str
    running: int
    target: int
    maximum: int | None = None
    message: str = ""


class ServeApplication(msgspec.Struct, frozen=True):
    """One application and its deployments, as Serve has them."""

    name: str
    status: str
    message: str
    deployments: list[ServeDeployment]


def serve_applications(
    cluster: Cluster, ray_cluster: str, head_service: str
) -> list[ServeApplication]:
    """Those on this Ray cluster, now.

    :raises ClusterError: the head does not answer, or the account may not ask it.
    """
    place = f"/api/v1/namespaces/{cluster.namespace}/services/{head_service}:{DASHBOARD_PORT}/proxy"
    headers = _token_header(cluster, ray_cluster)

    def ask() -> Any:
        path = f"{place}/api/serve/applications/"
        answer = cluster.dynamic.request(
            "get", path, header_params=headers, serialize=False, _request_timeout=10
        )
        return msgspec.json.decode(answer.data)

    found = asked(f"asking the head of {ray_cluster}", ask)
    try:
        return [_application(name, each) for name, each in found["applications"].items()]
    except (KeyError, AttributeError, TypeError) as error:
        raise ClusterError(f"the head of {ray_cluster} answered in no form we know") from error


def _application(name: str, content: dict[str, Any]) -> ServeApplication:
    deployments = [
        ServeDeployment(
            name=each["name"],
            status=each["status"],
            running=sum(r["state"] == "RUNNING" for r in each["replicas"]),
            target=each["target_num_replicas"],
            maximum=_maximum(each),
            message=each.get("message") or "",
        )
        for each in content["deployments"].values()
    ]
    return ServeApplication(name, content["status"], content.get("message") or "", deployments)


def _maximum(deployment: dict[str, Any]) -> int | None:
    scaling = (deployment.get("deployment_config") or {}).get("autoscaling_config") or {}
    return scaling.get("max_replicas")


def _token_header(cluster: Cluster, ray_cluster: str) -> dict[str, str]:
    """Empty where the cluster asks for no token. Never logged, never kept."""
    live = cluster.get(Ref(RAY, "RayCluster", ray_cluster, cluster.namespace))
    options = ((live or {}).get("spec") or {}).get("authOptions") or {}
    if options.get("mode") != "token":
        return {}
    secret = cluster.get(Ref("v1", "Secret", options.get("secretName") or ray_cluster))
    if secret is None:
        raise ClusterError(f"no Secret with Ray's token for {ray_cluster}")
    return {RAY_TOKEN_HEADER: f"Bearer {_token(secret)}"}


def _token(secret: Manifest) -> str:
    return base64.b64decode(secret["data"]["auth_token"]).decode()
