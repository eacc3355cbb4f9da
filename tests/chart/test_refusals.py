"""What makes no service is refused by helm, before any cluster sees it, and the message says why.

The operator takes most of these in silence: it tells of a name, of bounds of worker groups and of
missing options of an incremental upgrade once the object is there, and of nothing else.
"""

from typing import Any

import pytest

from tests.chart.rendering import Values, refusal, rendered

INCREMENTAL = {
    "type": "NewClusterWithIncrementalUpgrade",
    "incremental": {
        "gatewayClassName": "g",
        "maxSurgePercent": 20,
        "stepSizePercent": 30,
        "intervalSeconds": 5,
    },
}
GATEWAY = {"enabled": True, "className": "g", "host": "fraud.example.com", "tlsSecret": "tls"}
BIG = {"requests": {"cpu": "8", "memory": "3Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # Bounds
        ({"workers.minReplicas": 3}, "workers.minReplicas is 3, expected at most maxReplicas (2)"),
        (
            {"serve.deployments.XGBoost.minReplicas": 3},
            "serve.deployments.XGBoost.minReplicas is 3, expected at most maxReplicas (2)",
        ),
        ({"ingest.workers": {"min": 3, "max": 2}}, "ingest.workers.min is 3, expected at most max"),
        ({"workers.minReplicas": 0}, "got 0, want 1"),
        (
            {"serve.autoscaling": {"shrink_busy": 0.8}},
            "serve.autoscaling.shrink_busy is 0.8, expected at most grow_busy (0.7)",
        ),
        # Room
        (
            {"serve.deployments.FraudRouter.maxReplicas": 9},
            "with their most replicas, expected at most those of workers.maxReplicas pods (2)",
        ),
        (
            {"serve.deployments.XGBoost.minReplicas": 2},
            "with their fewest replicas, expected at most those of workers.minReplicas pods (1)",
        ),
        (
            {"serve.deployments.FraudRouter.numCpus": 1.5},
            "numCpus is 1.5, expected at most workers.cpus (1)",
        ),
        ({"workers.cpus": 3}, "workers.cpus is 3, expected at most workers.resources.limits.cpu"),
        ({"workers.resources": BIG}, "workers.resources.requests.cpu is 8, expected at most"),
        ({"workers.objectStoreBytes": 2**31}, "expected at most half of the memory's limit (3Gi)"),
        ({"redis.small.maxMemory": "500mb"}, "expected at most 0.8 of the memory's limit (512Mi)"),
        ({"terminationGracePeriodSeconds": 60}, "expected more than what a pod waits for"),
        # Upgrades
        (
            {"upgrade.type": "NewClusterWithIncrementalUpgrade"},
            "upgrade.incremental.gatewayClassName is missing",
        ),
        ({"upgrade": INCREMENTAL}, "stepSizePercent is 30, expected at most maxSurgePercent (20)"),
        (
            {"upgrade.incremental": {"intervalSeconds": 5}},
            "upgrade.type is NewCluster, expected NewClusterWithIncrementalUpgrade",
        ),
        ({"upgrade.type": "Recreate"}, "value must be one of 'NewCluster'"),
        # Who may ask
        ({"api.allowAnonymous": False}, "api.keysSecret is empty, expected"),
        ({"api.keysSecret": "k"}, "api.allowAnonymous is true and api.keysSecret is set"),
        ({"gateway": GATEWAY}, "gateway.enabled is true and api.allowAnonymous too"),
        ({"gateway": GATEWAY | {"host": ""}}, "gateway.host is empty"),
        # What it must reach
        ({"ingest.enabled": True}, "ingest.bootstrapServers is empty"),
        ({"redis.tls": True}, "expected redis.address"),
        ({"bundle.uri": "s3://models/b"}, "networkPolicy.bundleStore.ports is empty"),
        # Single values
        ({"bundle.uri": ""}, "minLength"),
        ({"bundle.uri": "bundles/relative"}, "does not match pattern"),
        ({"bundle.digest": "abc"}, "does not match pattern"),
        ({"image.tag": "latest"}, "'/image/tag'"),
        ({"image.digest": "sha256:1"}, "does not match pattern"),
        ({"redis.passwordSecret.name": ""}, "does not match pattern"),
        ({"redis.address": "redis://:secret@host:1"}, "does not match pattern"),
        ({"serve.placement": "apart"}, "value must be one of"),
        ({"serve.port": 30500}, "maximum"),
        ({"workers.resources.limits.memory": "3 Gi"}, "does not match pattern"),
        # Keys that nobody reads
        ({"serve.deployments.XGBoost.maxReplica": 1}, "'maxReplica' not allowed"),
        ({"serve.router": {"flights": 3}}, "'router' not allowed"),
        ({"serve.autoscaling": {"objective": 5}}, "'objective' not allowed"),
        ({"serve.deployments.Fraudrouter": {}}, "'Fraudrouter' not allowed"),
        ({"worker": {}}, "'worker' not allowed"),
        ({"networkPolicy.clients": [{}]}, "minProperties"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_value_that_makes_no_service_is_refused(values: Values, said: str) -> None:
    assert said in refusal(values=values)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a" * 48, "has 48 characters, expected at most 47"), ("1st", "expected a letter first")],
)
def test_a_name_that_kuberay_cannot_use_is_refused(name: str, said: str) -> None:
    assert said in refusal(name=name)


def test_the_longest_name_is_taken() -> None:
    assert rendered(name="a" * 47)


def test_production_without_keys_or_gateway_secret_is_refused() -> None:
    lacking: list[tuple[str, Any]] = [("api.keysSecret", ""), ("gateway.tlsSecret", "")]
    for key, value in lacking:
        assert f"{key} is empty" in refusal(production=True, values={key: value})
