"""What the chart renders: names, pods, rights, and what keeps a pod from being too much."""

import pytest

from serve_app.environment import IN_PODS, haproxy_threads
from tests.chart.rendering import CHART, Object, cluster_of, helm, one, pods, rendered

OTHERS = {"PodMonitor", "PrometheusRule", "Gateway", "HTTPRoute"}
PLAIN = {
    "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "RayService", "Service", "ServiceAccount",
    "StatefulSet",
}  # fmt: skip


@pytest.mark.parametrize("values", [(), (f"--values={CHART / 'values-production.yaml'}",)])
def test_helm_finds_nothing_wrong(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_object_is_named_after_the_release_and_none_has_a_namespace() -> None:
    for item in rendered(name="fraud", production=True):
        name = item["metadata"]["name"]
        assert name == "fraud" or name.startswith("fraud-")
        assert "namespace" not in item["metadata"]
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "fraud"


def test_kinds_are_kubernetes_own_and_few_others(objects: list[Object]) -> None:
    kinds = {item["kind"] for item in objects}
    assert kinds <= PLAIN | OTHERS
    assert kinds >= {"RayService", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"}
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_no_secret_is_in_the_chart(objects: list[Object]) -> None:
    assert "Secret" not in {item["kind"] for item in objects}
    options = cluster_of(objects)["gcsFaultToleranceOptions"]
    assert set(options["redisPassword"]) == {"valueFrom"}


def test_the_head_has_no_replicas_and_answers_no_client(objects: list[Object]) -> None:
    service = one(objects, "RayService")["spec"]
    assert service["excludeHeadPodFromServeSvc"] is True
    assert service["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_ray_asks_for_its_token_and_scales_by_its_second_autoscaler(objects: list[Object]) -> None:
    cluster = cluster_of(objects)
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for template in pods(objects).values():
        assert "restartPolicy" not in template["spec"], "the autoscaler takes Never or nothing"


def test_every_container_has_requests_limits_and_no_privilege(objects: list[Object]) -> None:
    containers = [c for t in pods(objects).values() for c in t["spec"]["containers"]]
    for container in [*containers, cluster_of(objects)["autoscalerOptions"]]:
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) >= {"cpu", "memory"}
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
    for container in containers:
        assert container["image"].rpartition(":")[2] not in ("", "latest")


def test_every_pod_runs_as_a_user_under_seccomp(objects: list[Object]) -> None:
    for template in pods(objects).values():
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_what_is_written_goes_to_a_volume(objects: list[Object]) -> None:
    for name in ("head", "workers"):
        spec = pods(objects)[name]["spec"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
        assert all(mount["name"] in volumes for mount in mounts.values())
        assert all(mounts[path].get("readOnly") for path in mounts if path != "/tmp")


def test_only_the_head_has_a_token_of_kubernetes(objects: list[Object]) -> None:
    accounts = {i["metadata"]["name"]: i for i in objects if i["kind"] == "ServiceAccount"}
    assert accounts["sentinel-head"]["automountServiceAccountToken"] is True
    assert accounts["sentinel-worker"]["automountServiceAccountToken"] is False
    found = pods(objects)
    assert found["head"]["spec"]["serviceAccountName"] == "sentinel-head"
    assert found["workers"]["spec"]["serviceAccountName"] == "sentinel-worker"
    for name, template in found.items():
        if name != "head":
            assert template["spec"]["automountServiceAccountToken"] is False
    assert not {"Role", "RoleBinding", "ClusterRole"} & {item["kind"] for item in objects}


def test_a_pod_outlives_the_drains_it_waits_for(objects: list[Object]) -> None:
    for name in ("head", "workers"):
        spec = pods(objects)[name]["spec"]
        assert spec["terminationGracePeriodSeconds"] >= 90
        assert "lifecycle" not in spec["containers"][0], "Ray drains by itself when it is told"


def test_workers_are_spread_and_go_one_at_a_time(objects: list[Object]) -> None:
    worker = pods(objects)["workers"]
    labels = worker["metadata"]["labels"]
    budget = one(objects, "PodDisruptionBudget")["spec"]
    (group,) = cluster_of(objects)["workerGroupSpecs"]
    fewest = group["minReplicas"]
    assert budget["selector"]["matchLabels"] == labels
    assert "maxUnavailable" not in budget, "a RayCluster has no scale subresource to count by"
    assert budget["minAvailable"] == max(0, fewest - 1)
    spread = worker["spec"]["topologySpreadConstraints"]
    assert {c["topologyKey"] for c in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    for constraint in spread:
        assert constraint["labelSelector"]["matchLabels"] == labels
        assert constraint["matchLabelKeys"] == ["ray.io/cluster"]


@pytest.mark.parametrize("cpus", [1, 2, 4, 7, 16])
def test_pods_have_the_applications_environment(cpus: int) -> None:
    limits = {"cpu": str(cpus), "memory": "4Gi"}
    values = {
        "workers.cpus": cpus,
        "workers.resources": {"requests": limits, "limits": limits},
    }
    found = pods(rendered(values=values))
    for name in ("head", "workers"):
        (container,) = found[name]["spec"]["containers"]
        environment = {e["name"]: e["value"] for e in container["env"]}
        assert IN_PODS.items() <= environment.items()
        assert environment["RAY_SERVE_HAPROXY_NBTHREAD"] == str(haproxy_threads(cpus))
        assert len(environment) == len(container["env"])


def test_ports_have_the_names_that_kuberay_and_the_monitors_look_for(objects: list[Object]) -> None:
    found = pods(objects)
    for name in ("head", "workers"):
        ports = {
            p["name"]: p["containerPort"] for p in found[name]["spec"]["containers"][0]["ports"]
        }
        assert ports["serve"] == 8000
        monitor = one(objects, "PodMonitor", f"sentinel-{'head' if name == 'head' else 'worker'}")
        assert {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]} <= set(ports)
        selected = monitor["spec"]["selector"]["matchLabels"]
        assert found[name]["metadata"]["labels"].items() <= selected.items()


def test_keys_and_credentials_come_by_reference(production: list[Object]) -> None:
    (container,) = pods(production)["workers"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "sentinel-bundle-store"}}]
    volumes = {v["name"]: v for v in pods(production)["workers"]["spec"]["volumes"]}
    assert volumes["api-keys"]["secret"]["secretName"] == "sentinel-api-keys"
    assert cluster_of(production)["authOptions"]["secretName"] == "sentinel-ray-token"


def test_the_small_redis_keeps_each_write_before_it_answers(trial: list[Object]) -> None:
    (container,) = one(trial, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    for option in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert option in script
    assert 'requirepass "$REDIS_PASSWORD"' in script
    kept = {"size": "1Gi", "className": "fast"}
    claimed = rendered(values={"redis.small.storage": kept})
    (claim,) = one(claimed, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"


def test_a_redis_of_ones_own_leaves_the_small_one_out(production: list[Object]) -> None:
    assert not {"StatefulSet", "Service"} & {item["kind"] for item in production}
    options = cluster_of(production)["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "rediss://redis.example.internal:6379"


def test_an_incremental_upgrade_brings_its_options() -> None:
    options = {
        "gatewayClassName": "istio",
        "maxSurgePercent": 50,
        "stepSizePercent": 10,
        "intervalSeconds": 10,
    }
    upgrade = {"type": "NewClusterWithIncrementalUpgrade", "incremental": options}
    spec = one(rendered(values={"upgrade": upgrade}), "RayService")["spec"]
    assert spec["upgradeStrategy"] == {"type": upgrade["type"], "clusterUpgradeOptions": options}


def test_the_gateway_ends_tls_and_lets_through_what_clients_ask(production: list[Object]) -> None:
    (listener,) = one(production, "Gateway")["spec"]["listeners"]
    assert listener["protocol"] == "HTTPS"
    assert listener["tls"]["certificateRefs"] == [{"name": "fraud-example-com-tls"}]
    (rule,) = one(production, "HTTPRoute")["spec"]["rules"]
    paths = {match["path"]["value"] for match in rule["matches"]}
    assert {"/predict", "/labels", "/ready"} <= paths
    assert not {"/metrics", "/-/healthz"} & paths
    assert rule["backendRefs"] == [{"name": "sentinel-serve-svc", "port": 8000}]
