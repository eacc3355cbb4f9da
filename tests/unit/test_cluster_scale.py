"""Other bounds for worker pods and replicas, as patches."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_cluster.argo import TRACKING, refuse_if_tracked
from ray_cluster.errors import ClusterError, KeptByArgo
from ray_cluster.scale import Bounds, Wanted, service_operations, with_replicas
from sentinel.errors import UsageError

CONFIG = (Path(__file__).parents[2] / "serve_app" / "config.yaml").read_text()


def manifest(*groups: str) -> dict[str, Any]:
    workers = [{"groupName": group, "minReplicas": 1, "maxReplicas": 2} for group in groups]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "sentinel", "annotations": {TRACKING: "fraud:ray.io/RayService:n/s"}},
        "spec": {"serveConfigV2": CONFIG, "rayClusterConfig": {"workerGroupSpecs": workers}},
    }


@pytest.mark.parametrize("text", ["3", "4:2", "a:b", "-1:2", "1:", ":2", "1:2:3", "²:3"])
def test_bounds_are_two_whole_numbers_in_order(text: str) -> None:
    with pytest.raises(UsageError, match="MIN:MAX"):
        Bounds.parse(text, "--workers")


def test_the_only_worker_group_needs_no_name() -> None:
    operations = service_operations(manifest("workers"), Wanted(workers=Bounds(2, 6)))
    place = "/spec/rayClusterConfig/workerGroupSpecs/0"
    assert operations == [
        {"op": "test", "path": f"{place}/groupName", "value": "workers"},
        {"op": "add", "path": f"{place}/minReplicas", "value": 2},
        {"op": "add", "path": f"{place}/maxReplicas", "value": 6},
    ]


def test_of_several_groups_one_must_be_named() -> None:
    with pytest.raises(ClusterError, match=r"--group is needed; this service has small, large"):
        service_operations(manifest("small", "large"), Wanted(workers=Bounds(2, 6)))
    chosen = Wanted(workers=Bounds(2, 6), group="large")
    operations = service_operations(manifest("small", "large"), chosen)
    assert all("/workerGroupSpecs/1/" in operation["path"] for operation in operations)


def scaling(text: str) -> dict[str, tuple[int, int] | None]:
    found = {}
    for deployment in yaml.safe_load(text)["applications"][0]["deployments"]:
        bounds = deployment.get("autoscaling_config")
        found[deployment["name"]] = bounds and (bounds["min_replicas"], bounds["max_replicas"])
    return found


def test_replicas_of_all_that_scale_are_bounded_and_nothing_else_changes() -> None:
    changed = with_replicas(CONFIG, Bounds(2, 8), None)
    assert scaling(changed) == {
        "FraudRouter": (2, 8),
        "Profiles": None,
        "XGBoost": (2, 8),
        "IsolationForest": (2, 8),
    }
    before, after = yaml.safe_load(CONFIG), yaml.safe_load(changed)
    for content in (before, after):
        for deployment in content["applications"][0]["deployments"]:
            for bound in ("min_replicas", "max_replicas"):
                deployment.get("autoscaling_config", {}).pop(bound, None)
    assert before == after


def test_one_deployments_replicas_can_be_bounded_alone() -> None:
    # The shipped config says the bounds once, by a YAML alias: one deployment's must not be all's.
    changed = scaling(with_replicas(CONFIG, Bounds(3, 4), "XGBoost"))
    assert changed["XGBoost"] == (3, 4)
    assert changed["FraudRouter"] == (1, 2)


def test_a_deployment_that_does_not_scale_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match=r"'Profiles' .* FraudRouter, XGBoost"):
        with_replicas(CONFIG, Bounds(1, 2), "Profiles")


def test_no_replica_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="no answers"):
        with_replicas(CONFIG, Bounds(0, 2), None)


def test_what_argo_cd_keeps_is_left_alone_and_the_commit_printed() -> None:
    kept = manifest("workers")
    with pytest.raises(KeptByArgo, match=r"application fraud(.|\n)*maxReplicas: 6"):
        refuse_if_tracked(kept, "scale", "workers: {maxReplicas: 6}", force=False)
    refuse_if_tracked(kept, "scale", "", force=True)
    kept["metadata"]["annotations"] = {}
    refuse_if_tracked(kept, "scale", "", force=False)
