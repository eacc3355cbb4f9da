"""The Serve config of the cluster is the one Serve config, but for what a place may lay over it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from kafka_ingest.app import IngestArgs, build
from ray_cluster.serve_check import check_serve_config
from serve_app.args import AppArgs
from serve_app.exposure import check_exposure
from serve_app.serve_config import read_config
from tests.chart.rendering import Object, Values, one, rendered, serve_config

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"

PLACES: list[tuple[bool, Values]] = [
    (False, {}),
    (True, {}),
    (False, {"serve.placement": "together"}),
    (False, {"redis.profiles.enabled": False, "redis.gcs.enabled": False}),
    (False, {"bundle": {"uri": "/bundles/b", "digest": "a" * 64}, "serve.port": 9000}),
    (False, {"serve.autoscaling": {"objective_ms": 80, "shrink_seconds": 600}}),
    (False, {"ingest.enabled": True, "ingest.bootstrapServers": "kafka-1:9092,kafka-2:9092"}),
]


@pytest.fixture(scope="module", params=PLACES, ids=lambda place: str(place[1])[:40])
def laid(request: pytest.FixtureRequest) -> list[Object]:
    production, values = request.param
    return rendered(production=production, values=values)


def without_overlay(config: Object, deployments: list[str]) -> Object:
    """A config less everything that a place may lay over it."""
    left = copy.deepcopy(config)
    for key in ("host", "port"):
        left["http_options"].pop(key)
    left["applications"] = [a for a in left["applications"] if a["name"] != "ingest"]
    (application,) = left["applications"]
    application.pop("args")
    application["autoscaling_policy"].pop("policy_kwargs")
    application["deployments"] = [d for d in application["deployments"] if d["name"] in deployments]
    for deployment in application["deployments"]:
        deployment.pop("user_config")
        deployment.pop("ray_actor_options")
        for bound in ("min_replicas", "max_replicas"):
            deployment.get("autoscaling_config", {}).pop(bound, None)
    return left


def test_nothing_is_laid_over_it_but_what_may_be(laid: list[Object]) -> None:
    own = serve_config(laid)
    names = [deployment["name"] for deployment in own["applications"][0]["deployments"]]
    shipped = yaml.safe_load(CONFIG.read_text())
    assert without_overlay(own, names) == without_overlay(shipped, names)
    arguments = own["applications"][0]["args"]
    assert set(arguments) <= {"placement", "api_keys", "allow_anonymous", "profiles"}


def test_ray_takes_it_with_every_key(laid: list[Object]) -> None:
    check_serve_config(one(laid, "RayService")["spec"]["serveConfigV2"])


def test_the_application_takes_it_as_it_stands(laid: list[Object], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(one(laid, "RayService")["spec"]["serveConfigV2"])
    read = read_config(file)
    own = serve_config(laid)["applications"][0]
    assert read.args == AppArgs.model_validate(own["args"])
    assert read.host == "0.0.0.0", "other pods ask it"
    check_exposure(read.args, read.host)
    for deployment in read.content["applications"][0]["deployments"]:
        assert deployment["user_config"] == own["deployments"][0]["user_config"]


def test_replicas_have_room_in_the_worker_pods(laid: list[Object]) -> None:
    (group,) = one(laid, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    cpus = int(group["rayStartParams"]["num-cpus"])
    deployments = serve_config(laid)["applications"][0]["deployments"]

    def reserved(bound: str) -> float:
        return sum(
            d["ray_actor_options"]["num_cpus"] * d.get("autoscaling_config", {}).get(bound, 1)
            for d in deployments
        )

    assert reserved("min_replicas") <= cpus * group["minReplicas"]
    assert reserved("max_replicas") <= cpus * group["maxReplicas"]


def test_redis_is_named_without_its_password() -> None:
    values = {"redis.username": "sentinel", "redis.address": "r:6380", "redis.tls": True}
    application = serve_config(rendered(values=values))["applications"][0]
    assert application["args"]["profiles"] == {
        "uri": "rediss://sentinel@r:6380/1",
        "password_file": "/etc/sentinel/redis/password",
    }


def test_ingest_is_a_second_application_that_no_request_reaches() -> None:
    values = {
        "ingest.enabled": True,
        "ingest.bootstrapServers": "k:9092",
        "ingest.configSecret": "kafka",
    }
    objects = rendered(values=values)
    application, ingest = serve_config(objects)["applications"]
    assert (application["name"], ingest["name"]) == ("sentinel", "ingest")
    assert ingest["route_prefix"] is None
    assert ingest["import_path"] == f"{build.__module__}:{build.__name__}"
    args = IngestArgs.model_validate(ingest["args"])
    assert args == IngestArgs(bootstrap_servers="k:9092", config=args.config)
    assert str(args.config).endswith("librdkafka.properties")


def test_numbers_stay_whole_numbers() -> None:
    values: dict[str, Any] = {"serve.autoscaling": {"stale_seconds": 1_000_000}}
    (application,) = serve_config(rendered(values=values))["applications"]
    assert application["autoscaling_policy"]["policy_kwargs"] == {"stale_seconds": 1_000_000}
    for deployment in application["deployments"]:
        assert isinstance(deployment["max_ongoing_requests"], int)
