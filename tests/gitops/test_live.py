"""What lives on while Git changes: the RayCluster, its bounds, and Argo CD itself."""

import signal

import pytest

from ray_cluster.api import Cluster
from ray_cluster.errors import RefusedByCluster
from ray_cluster.objects import RAY, Ref
from ray_cluster.rayservice import read_cluster
from tests.cluster.kube import account, eventually
from tests.gitops.application import Application, gone
from tests.gitops.by_hand import end, live_ray_cluster, say_running

CLUSTER = Ref(RAY, "RayCluster", "sentinel-live")
DASHBOARD = Ref("v1", "ConfigMap", "sentinel-dashboard")


def bounds(cluster: Cluster) -> tuple[int, int]:
    found = cluster.get(CLUSTER)
    assert found is not None
    group = read_cluster(found).spec.worker_group_specs[0]
    return group.min_replicas, group.max_replicas


def test_what_git_has_no_more_is_pruned_and_the_live_cluster_is_not(live: Application) -> None:
    live_ray_cluster(live.cluster)  # with Argo CD's own annotation, and no owner to protect it
    live.repository.commit_values("Off", monitoring={"dashboard": {"enabled": False}})
    live.refresh()
    eventually(lambda: gone(live.cluster, DASHBOARD), 60, "the dashboard is pruned")
    eventually(live.settled, 60, "it is as Git has it")
    assert live.cluster.get(CLUSTER) is not None


def test_a_commit_without_the_service_waits_for_a_persons_yes(live: Application) -> None:
    live.repository.commit("Away", **{"ray_cluster/chart/templates/rayservice.yaml": None})
    live.refresh()
    eventually(lambda: live.live()["status"]["sync"]["status"] == "OutOfSync", 60, "it is seen")
    eventually(lambda: "confirm" in live.waits_for(), 90, "the sync waits for a yes")
    assert live.rayservice() is not None


def test_changed_bounds_reach_the_live_cluster(live: Application) -> None:
    live_ray_cluster(live.cluster)
    assert bounds(live.cluster) == (2, 10)
    live.repository.commit_values("More", workers={"minReplicas": 3, "maxReplicas": 12})
    live.refresh()
    live.run()
    eventually(live.settled, 90, "it is live")
    assert bounds(live.cluster) == (3, 12)


def test_who_brings_bounds_may_do_that_and_little_else(live: Application) -> None:
    live_ray_cluster(live.cluster)
    mine = account(live.cluster, "sentinel-bounds")
    assert mine.get(CLUSTER) is not None
    replicas = {"op": "add", "path": "/spec/workerGroupSpecs/0/minReplicas", "value": 1}
    mine.patch(CLUSTER, [replicas])
    service = Ref(RAY, "RayService", "sentinel")
    for refused in (
        lambda: mine.patch(service, [replicas]),
        lambda: mine.delete(CLUSTER),
        lambda: mine.objects("v1", "Pod"),
        lambda: mine.get(Ref("v1", "Secret", "sentinel-redis")),
        lambda: mine.objects(RAY, "RayService"),
    ):
        with pytest.raises(RefusedByCluster, match="cannot"):
            refused()


def test_a_controller_killed_midway_goes_on_when_it_is_back(application: Application) -> None:
    application.pods.held.clear()
    application.start()
    check = Ref("v1", "Pod", "sentinel-check")
    eventually(lambda: application.cluster.get(check) is not None, 60, "the check is asked for")
    end(application.argo.folder / "argocd-application-controller.pid", signal.SIGKILL)
    application.argo.up()
    application.pods.held.set()
    application.run()
    eventually(application.settled, 120, "it is live")
    # The check is asked again, smoke and bounds once.
    assert sorted(application.pods.ran) == ["bounds", "check", "check", "smoke"]


def test_a_service_that_turns_bad_later_is_degraded(live: Application) -> None:
    say_running(live.cluster, application="UNHEALTHY", message="replicas die")
    eventually(lambda: live.health() == "Degraded", 60, "it is seen")
    say_running(live.cluster)
    eventually(lambda: live.health() == "Healthy", 60, "it is seen")
