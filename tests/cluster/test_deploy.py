"""A release on a real API server: checked whole, applied, and nothing of others' lost."""

from pathlib import Path
from typing import Any

import pytest

from ray_cluster.api import FIELD_MANAGER, Cluster
from ray_cluster.apply import check_all
from ray_cluster.argo import TRACKING
from ray_cluster.errors import CannotRender, KeptByArgo, RefusedByCluster
from ray_cluster.needed_secrets import Needed, missing_secrets
from ray_cluster.objects import Manifest, Ref, ray_service
from ray_cluster.release import deploy, live_service, the_service
from ray_cluster.render import Release, render
from ray_cluster.revisions import revisions
from tests.cluster.kube import TRIAL, edit, set_status, status_of, trial_of

VARIANTS: dict[str, tuple[str, ...]] = {
    "trial": (),
    "redis elsewhere": ("redis.address=redis.example.com:6379",),
    "no redis": ("redis.profiles.enabled=false", "redis.gcs.enabled=false"),
    "one process": ("serve.placement=together",),
    "kafka": ("ingest.enabled=true", "ingest.bootstrapServers=kafka:9092"),
}


def count(cluster: Cluster) -> int:
    kinds = {"v1": ("ConfigMap", "Service"), "ray.io/v1": ("RayService",)}
    found = [
        o for version, names in kinds.items() for k in names for o in cluster.objects(version, k)
    ]
    return len([o for o in found if o["metadata"]["name"] != "kube-root-ca.crt"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_passes_the_servers_dry_run(cluster: Cluster, variant: str) -> None:
    check_all(cluster, render(Release(settings=(*TRIAL, *VARIANTS[variant]))))
    assert count(cluster) == 0


def test_production_passes_the_servers_dry_run(cluster: Cluster, production_values: Path) -> None:
    # Without the Gateway, whose kinds are the Gateway API's.
    settings = (*TRIAL, "gateway.enabled=false")
    check_all(cluster, render(Release(values=(production_values,), settings=settings)))


def test_of_prometheus_kinds_the_server_says_what_is_missing(cluster: Cluster) -> None:
    # Their CRDs are the Prometheus operator's. What a server without them can tell is just that;
    # the rules' expressions are promtool's to check (tests/chart).
    with pytest.raises(RefusedByCluster) as refused:
        check_all(cluster, render(Release()))
    assert refused.value.refusals
    assert all("install the Prometheus operator" in line for line in refused.value.refusals)


def test_a_deploy_is_what_the_cluster_then_has(cluster: Cluster, trial: list[Manifest]) -> None:
    done = deploy(cluster, trial)
    assert done.revision == 1
    assert len(done.applied) == len(trial)
    for manifest in trial:
        live = cluster.get(Ref.of(manifest))
        assert live is not None
        managers = {each["manager"] for each in live["metadata"]["managedFields"]}
        assert FIELD_MANAGER in managers


def test_the_same_deploy_again_changes_nothing(cluster: Cluster, trial: list[Manifest]) -> None:
    deploy(cluster, trial)
    before = live_service(cluster, "sentinel")
    assert deploy(cluster, trial).revision == 1
    after = live_service(cluster, "sentinel")
    assert before is not None
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("rayClusterConfig", "workerGroupSpecs", 0, "minReplica"), 1, "minReplica"),
        (("rayClusterConfig", "workerGroupSpecs", 0, "minReplicas"), "two", "minReplicas"),
        (("upgradeStrategy", "type"), 7, "upgradeStrategy.type"),
    ],
    ids=["misspelt", "a word for a number", "a number for a word"],
)
def test_what_the_schema_refuses_stops_all_of_it(
    cluster: Cluster, trial: list[Manifest], path: tuple[Any, ...], value: Any, said: str
) -> None:
    *parents, last = path
    at: Any = the_service(trial)["spec"]
    for key in parents:
        at = at[key]
    at[last] = value
    with pytest.raises(RefusedByCluster, match=said):
        deploy(cluster, trial)
    assert count(cluster) == 0


def test_a_wrong_serve_config_stops_all_of_it(cluster: Cluster, trial: list[Manifest]) -> None:
    spec = the_service(trial)["spec"]
    spec["serveConfigV2"] = spec["serveConfigV2"].replace("max_ongoing_requests", "max_ongoing", 1)
    with pytest.raises(CannotRender, match="no such key"):
        deploy(cluster, trial)
    assert count(cluster) == 0


def test_every_refusal_is_told_at_once(cluster: Cluster, trial: list[Manifest]) -> None:
    the_service(trial)["spec"]["nonsense"] = 1
    service = next(m for m in trial if m["kind"] == "Service")
    service["spec"]["ports"] = [{"name": "x", "port": 70_000}]
    with pytest.raises(RefusedByCluster) as refused:
        deploy(cluster, trial)
    assert len(refused.value.refusals) == 2


def grow_by_hand(cluster: Cluster, manager: str) -> None:
    operation = {"op": "replace", "path": "/spec/rayClusterDeletionDelaySeconds", "value": 7}
    edit(cluster, ray_service("sentinel", cluster.namespace), [operation], manager)


def test_an_edit_by_someone_else_is_not_overwritten_unasked(
    cluster: Cluster, trial: list[Manifest]
) -> None:
    deploy(cluster, trial)
    grow_by_hand(cluster, "kubectl-edit")
    with pytest.raises(RefusedByCluster, match=r"DeletionDelaySeconds set by 'kubectl-edit'"):
        deploy(cluster, trial)
    deploy(cluster, trial, force=True)
    live = live_service(cluster, "sentinel")
    assert live is not None
    wanted = the_service(trial)["spec"]["rayClusterDeletionDelaySeconds"]
    assert live["spec"]["rayClusterDeletionDelaySeconds"] == wanted != 7


def test_what_the_operator_owns_is_taken_over(cluster: Cluster, trial: list[Manifest]) -> None:
    # KubeRay's operator writes the status, and defaults into the spec, which makes it their owner.
    deploy(cluster, trial)
    ref = ray_service("sentinel", cluster.namespace)
    set_status(cluster, ref, status_of(cluster))
    grow_by_hand(cluster, "operator-by-hand")
    deploy(cluster, trial)
    assert live_service(cluster, "sentinel")["spec"]["rayClusterDeletionDelaySeconds"] != 7  # type: ignore[index]


def test_what_the_next_release_no_longer_has_is_removed(cluster: Cluster) -> None:
    deploy(cluster, trial_of())
    dashboard = Ref("v1", "ConfigMap", "sentinel-dashboard")
    assert cluster.get(dashboard) is not None
    without = trial_of("monitoring.dashboard.enabled=false")
    assert deploy(cluster, without).removed == [str(dashboard)]
    assert cluster.get(dashboard) is None


def test_a_revision_holds_no_secret(cluster: Cluster, trial: list[Manifest]) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "a"},
        "stringData": {"b": "c"},
    }
    deploy(cluster, [*trial, secret])
    assert cluster.get(Ref("v1", "Secret", "a")) is not None
    kinds = {manifest["kind"] for manifest in revisions(cluster, "sentinel")[-1].manifests}
    assert "RayService" in kinds
    assert "Secret" not in kinds


def test_what_argo_cd_keeps_is_not_deployed_over(cluster: Cluster, trial: list[Manifest]) -> None:
    kept = the_service(trial)
    tracking = f"fraud:ray.io/RayService:{cluster.namespace}/sentinel"
    cluster.apply(kept | {"metadata": kept["metadata"] | {"annotations": {TRACKING: tracking}}})
    with pytest.raises(KeptByArgo, match="application fraud"):
        deploy(cluster, trial)
    assert deploy(cluster, trial, force=True).revision == 1


def test_a_redis_of_the_releases_own_gets_a_password_that_stays(
    cluster: Cluster, trial: list[Manifest]
) -> None:
    wanted = [Needed("sentinel-redis", "password")]
    assert missing_secrets(cluster, trial) == wanted
    assert len(deploy(cluster, trial).made) == 1
    first = cluster.get(Ref("v1", "Secret", "sentinel-redis"))
    assert missing_secrets(cluster, trial) == []
    assert deploy(cluster, trial).made == []
    assert cluster.get(Ref("v1", "Secret", "sentinel-redis")) == first


def test_a_password_of_someone_elses_redis_is_not_invented(cluster: Cluster) -> None:
    elsewhere = trial_of("redis.address=redis.example.com:6379")
    assert deploy(cluster, elsewhere).made == []
    assert missing_secrets(cluster, elsewhere) == [Needed("sentinel-redis", "password")]
