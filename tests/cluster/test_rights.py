"""What an account may not do, it cannot: RBAC on a real API server, by accounts' own tokens."""

from typing import Any

import pytest

from ray_cluster.api import Cluster
from ray_cluster.errors import RefusedByCluster
from ray_cluster.objects import Manifest, Ref
from ray_cluster.release import deploy
from ray_cluster.scale import Bounds, Wanted, scale
from ray_cluster.status import status
from tests.cluster.kube import account

FORBIDDEN = r"forbidden|cannot"


@pytest.mark.parametrize("part", ["head", "worker"])
def test_the_services_own_accounts_may_read_no_secret_and_change_no_service(
    cluster: Cluster, trial: list[Manifest], part: str
) -> None:
    # What the head's autoscaler needs, KubeRay's operator grants it, and nothing of this.
    deploy(cluster, trial)
    own = account(cluster, f"sentinel-{part}")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    cluster.apply(secret)
    for attempt in (
        lambda: own.get(Ref("v1", "Secret", "a")),
        lambda: own.objects("v1", "Secret"),
        lambda: own.apply(secret),
        lambda: scale(own, "sentinel", Wanted(workers=Bounds(1, 9))),
        lambda: own.delete(Ref("ray.io/v1", "RayService", "sentinel")),
    ):
        with pytest.raises(RefusedByCluster, match=FORBIDDEN):
            attempt()


def test_workers_have_no_token_of_the_api_server_in_their_pods(trial: list[Manifest]) -> None:
    (worker,) = [
        m
        for m in trial
        if (m["kind"], m["metadata"]["name"]) == ("ServiceAccount", "sentinel-worker")
    ]
    assert worker["automountServiceAccountToken"] is False


def reading(*groups_and_kinds: tuple[str, str]) -> list[dict[str, Any]]:
    verbs = ["get", "list", "watch"]
    return [{"apiGroups": [g], "resources": [k], "verbs": verbs} for g, k in groups_and_kinds]


VIEW = reading(
    ("ray.io", "rayservices"),
    ("ray.io", "rayclusters"),
    ("", "pods"),
    ("", "events"),
    ("apps", "controllerrevisions"),
)


def test_who_may_only_look_sees_the_status_and_changes_nothing(
    cluster: Cluster, trial: list[Manifest]
) -> None:
    deploy(cluster, trial)
    viewer = account(cluster, "viewer", VIEW)
    assert status(viewer, "sentinel").service == "sentinel"
    with pytest.raises(RefusedByCluster, match=FORBIDDEN) as refused:
        deploy(viewer, trial)
    # Every object is named, not the first alone.
    assert len(refused.value.refusals) == len(trial)
    with pytest.raises(RefusedByCluster, match=FORBIDDEN):
        scale(viewer, "sentinel", Wanted(workers=Bounds(1, 9)))


def test_a_stranger_sees_nothing(cluster: Cluster, trial: list[Manifest]) -> None:
    deploy(cluster, trial)
    with pytest.raises(RefusedByCluster, match=FORBIDDEN):
        status(account(cluster, "stranger", []), "sentinel")
