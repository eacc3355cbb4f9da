"""Scaling, drift and going back, on a real API server; the live RayCluster is made by hand, as the
operator makes it, where none runs."""

import pytest

from ray_cluster.api import Cluster
from ray_cluster.argo import TRACKING
from ray_cluster.drift import cluster_drift, release_drift
from ray_cluster.errors import ClusterError, KeptByArgo
from ray_cluster.objects import Manifest, Ref, ray_service
from ray_cluster.rayservice import read_cluster
from ray_cluster.release import deploy, live_service, roll_back, the_service
from ray_cluster.revisions import revisions
from ray_cluster.scale import Bounds, Wanted, scale
from tests.cluster.kube import edit, eventually, make_ray_cluster, set_status, status_of

WORKERS = "/spec/rayClusterConfig/workerGroupSpecs/0"


@pytest.fixture
def live(cluster: Cluster, trial: list[Manifest]) -> Ref:
    """The trial deployed, and the Ray cluster that it runs on."""
    deploy(cluster, trial)
    ref = make_ray_cluster(cluster)
    set_status(cluster, ray_service("sentinel", cluster.namespace), status_of(cluster))
    return ref


def service(cluster: Cluster) -> Manifest:
    found = live_service(cluster, "sentinel")
    assert found is not None
    return found


def bounds(cluster: Cluster, ref: Ref) -> tuple[int, int]:
    found = cluster.get(ref)
    assert found is not None
    group = read_cluster(found).spec.worker_group_specs[0]
    return group.min_replicas, group.max_replicas


def drifts(cluster: Cluster) -> list[str]:
    """Every difference that ``sentinel cluster drift`` would tell."""
    newest = revisions(cluster, "sentinel")[-1]
    found = cluster_drift(cluster, service(cluster))
    found += release_drift(cluster, newest.manifests, "the newest revision")
    return [f"{drift.object} {each.path}" for drift in found for each in drift.differences]


def test_after_a_deploy_there_is_no_drift(cluster: Cluster, live: Ref) -> None:
    assert drifts(cluster) == []


def test_what_rays_autoscaler_writes_is_no_drift(cluster: Cluster, live: Ref) -> None:
    replicas = {"op": "add", "path": "/spec/workerGroupSpecs/0/replicas", "value": 2}
    edit(cluster, live, [replicas], "ray-autoscaler")
    assert drifts(cluster) == []


def test_bounds_that_never_reached_the_live_cluster_are_drift(cluster: Cluster, live: Ref) -> None:
    # What KubeRay does with such an edit: nothing.
    operation = {"op": "replace", "path": f"{WORKERS}/maxReplicas", "value": 9}
    edit(cluster, ray_service("sentinel", cluster.namespace), [operation], "kubectl-edit")
    assert drifts(cluster) == [
        "RayCluster sentinel-live spec.workerGroupSpecs[workers].maxReplicas",
        "RayService sentinel spec.rayClusterConfig.workerGroupSpecs[workers].maxReplicas",
    ]


def test_scale_changes_the_live_cluster_too_and_leaves_none(cluster: Cluster, live: Ref) -> None:
    done = scale(cluster, "sentinel", Wanted(workers=Bounds(2, 9), replicas=Bounds(2, 8)))
    assert bounds(cluster, live) == (2, 9)
    assert len(done.changed) == 2
    assert drifts(cluster) == []


def test_a_deploy_after_scale_needs_no_force(
    cluster: Cluster, live: Ref, trial: list[Manifest]
) -> None:
    scale(cluster, "sentinel", Wanted(workers=Bounds(2, 9)))
    deploy(cluster, trial)
    wanted = the_service(trial)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"]
    group = service(cluster)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert group["maxReplicas"] == wanted
    # KubeRay leaves the live cluster as it was scaled, and drift says so.
    assert "RayCluster sentinel-live spec.workerGroupSpecs[workers].maxReplicas" in drifts(cluster)


def test_a_group_that_is_not_there_is_not_scaled(cluster: Cluster, live: Ref) -> None:
    before = service(cluster)["metadata"]["resourceVersion"]
    with pytest.raises(ClusterError, match=r"no worker group 'gpus'; this service has workers"):
        scale(cluster, "sentinel", Wanted(workers=Bounds(2, 9), group="gpus"))
    assert service(cluster)["metadata"]["resourceVersion"] == before


def test_what_argo_cd_keeps_is_not_scaled(cluster: Cluster, live: Ref) -> None:
    ref = ray_service("sentinel", cluster.namespace)
    tracking = {"op": "add", "path": "/metadata/annotations", "value": {TRACKING: "fraud:x"}}
    edit(cluster, ref, [tracking], "argocd-controller")
    before = bounds(cluster, live)
    with pytest.raises(KeptByArgo, match=r"workers: \{minReplicas: 3, maxReplicas: 4\}"):
        scale(cluster, "sentinel", Wanted(workers=Bounds(3, 4)))
    assert bounds(cluster, live) == before
    scale(cluster, "sentinel", Wanted(workers=Bounds(3, 4)), force=True)
    assert bounds(cluster, live) == (3, 4)


def test_an_object_that_someone_removed_is_drift(cluster: Cluster, live: Ref) -> None:
    cluster.delete(Ref("v1", "ConfigMap", "sentinel-dashboard"))
    assert "ConfigMap sentinel-dashboard " in drifts(cluster)


def test_a_rollback_brings_the_release_before_back(cluster: Cluster, trial: list[Manifest]) -> None:
    deploy(cluster, trial)
    first = service(cluster)["spec"]
    head = the_service(trial)["spec"]["rayClusterConfig"]["headGroupSpec"]
    head["template"]["spec"]["containers"][0]["image"] = "example.com/other:2"
    assert deploy(cluster, trial).revision == 2
    assert service(cluster)["spec"] != first
    done = roll_back(cluster, "sentinel", None)
    assert service(cluster)["spec"] == first
    notes = [(each.number, each.note) for each in revisions(cluster, "sentinel")]
    assert notes == [(1, "deploy"), (2, "deploy"), (3, "rollback to 1")]
    assert done.revision == 3


def test_a_rollback_after_scale_has_the_bounds_from_before(cluster: Cluster, live: Ref) -> None:
    before = service(cluster)["spec"]
    scale(cluster, "sentinel", Wanted(workers=Bounds(2, 9), replicas=Bounds(1, 9)))
    roll_back(cluster, "sentinel", None)
    assert service(cluster)["spec"] == before


def test_ten_revisions_are_kept_and_they_go_with_the_service(
    cluster: Cluster, trial: list[Manifest]
) -> None:
    for number in range(12):
        the_service(trial)["spec"]["rayClusterDeletionDelaySeconds"] = 100 + number
        deploy(cluster, trial)
    known = revisions(cluster, "sentinel")
    assert [each.number for each in known] == list(range(3, 13))
    cluster.delete(ray_service("sentinel", cluster.namespace))
    eventually(lambda: not revisions(cluster, "sentinel"), 60, "the garbage collector took them")
