"""What chart and image repeat of the code and the lock, held equal to it; no helm needed."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from ray_cluster import dashboard
from sentinel.scaling_settings import ScalingSettings
from serve_app import environment
from serve_app.serve_config import DEPLOYMENTS

ROOT = Path(__file__).parents[2]
CHART = ROOT / "ray_cluster" / "chart"
FILES = CHART / "files"
METRIC = re.compile(r"\b(ray_[a-z]\w+|kuberay_\w+)\b")
NOT_METRICS = {"ray_io_cluster"}

RAYS_OWN = {
    "serve_application_status",
    "serve_autoscaling_target_replicas",
    "serve_deployment_queued_queries",
    "serve_deployment_replica_healthy",
    "serve_http_request_latency_ms",
}
"""Metrics of Ray's that the dashboard and the rules name; tests/chart asks a real Prometheus."""

KUBERAYS_OWN = {"kuberay_service_condition_upgrade_in_progress"}
"""Of KubeRay's operator, which v1.7.0 declares in ray_service_metrics.go."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def locked(file: str) -> dict[str, str]:
    """The releases in a lock; of several by Python version, that of the image's 3.11."""
    lines = re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", (ROOT / file).read_text(), re.M)
    newer = ("python_full_version >= '3.12'", "python_full_version >= '3.13'")
    return {name: version for name, version, marker in lines if marker not in newer}


def test_the_charts_serve_config_is_the_one_serve_config() -> None:
    own = FILES / "serve-config.yaml"
    assert own.read_text() == (ROOT / "serve_app" / "config.yaml").read_text(), "make chart"


def test_the_charts_environment_is_what_the_application_says_for_pods() -> None:
    assert read(FILES / "environment.yaml") == dict(environment.IN_PODS), "make chart"


def test_pods_and_machines_share_one_list_of_settings() -> None:
    own = set(environment.IN_PODS) - {"RAY_SERVE_HAPROXY_BINARY_PATH"}
    assert own == set(environment.EVERYWHERE)
    for name in own:
        assert environment.IN_PODS[name] == environment.RECOMMENDED[name]
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environment.IN_PODS, "pods would be alone"


def test_the_charts_dashboard_is_the_one_in_the_code() -> None:
    assert (FILES / "dashboard.json").read_text() == dashboard.dashboard() + "\n", "make chart"


def test_a_panel_has_a_number_of_its_own_and_its_queries_a_name() -> None:
    panels = json.loads(dashboard.dashboard())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        names = [target["refId"] for target in panel.get("targets", [])]
        assert names == sorted(set(names))
        assert all(names)
    asked = [t["expr"] for panel in panels for t in panel.get("targets", [])]
    assert asked == dashboard.queries()


def test_dashboard_and_rules_name_only_metrics_that_exist() -> None:
    table = (ROOT / "docs" / "metrics.md").read_text()
    ours = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `sentinel_")}
    rules = [r["expr"] for g in read(FILES / "rules.yaml")["groups"] for r in g["rules"]]
    named = set(METRIC.findall("\n".join(dashboard.queries() + rules))) - NOT_METRICS
    plain = {re.sub(r"_(total|bucket)$", "", name.removeprefix("ray_")) for name in named}
    assert plain <= ours | RAYS_OWN | KUBERAYS_OWN
    assert plain >= RAYS_OWN | KUBERAYS_OWN, "the list above names what nobody asks for"


def test_the_schema_knows_every_setting_of_the_autoscaling_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["serve"]["properties"]["autoscaling"]
    fields = ScalingSettings.model_json_schema()["properties"]
    bounds = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    assert known["properties"] == {
        name: {key: field[key] for key in bounds if key in field} for name, field in fields.items()
    }


def test_the_schema_lets_through_no_key_that_it_does_not_know() -> None:
    open_maps = []

    def walk(schema: Any, path: str) -> None:
        if isinstance(schema, list):
            for item in schema:
                walk(item, path)
        elif isinstance(schema, dict):
            if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
                open_maps.append((path, schema.get("additionalProperties")))
            for key, value in schema.items():
                walk(value, f"{path}.{key}" if key != "properties" else path)

    schema = json.loads((CHART / "values.schema.json").read_text())
    walk(schema, "")
    strings = {"type": "string"}  # labels and the like, whose names are the user's
    assert [path for path, values in open_maps if values != strings] == [".global"]


def test_every_deployment_has_its_size_in_the_values() -> None:
    assert set(read(CHART / "values.yaml")["serve"]["deployments"]) == set(DEPLOYMENTS)


def test_versions_are_those_of_the_package_and_the_lock() -> None:
    chart = read(CHART / "Chart.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == chart["version"] == project["version"]
    lock = locked("requirements.lock")
    assert chart["annotations"]["ray.io/version"] == lock["ray"]
    image = locked("ray_cluster/image.lock")
    assert image == {name: lock[name] for name in image}


def test_the_image_has_the_dependencies_but_those_that_train_and_measure() -> None:
    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[\[=<>~]", line)[0] for line in lines}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = (ROOT / "ray_cluster" / "image.in").read_text().splitlines()
    own = names([line for line in listed if not line.startswith("#")])
    assert names(project["dependencies"]) - own == {"locust", "matplotlib", "scikit-learn"}
    assert own <= names(project["dependencies"])
    assert not {name for name in locked("ray_cluster/image.lock") if name.startswith("nvidia")}


def test_values_and_alerts_are_documented() -> None:
    docs = (ROOT / "docs" / "chart.md").read_text()
    for value in read(CHART / "values.yaml"):
        assert f"`{value}`" in docs, value
    rules = [r["alert"] for g in read(FILES / "rules.yaml")["groups"] for r in g["rules"]]
    listed = re.findall(r"^\| `(Sentinel\w+)` \|", docs, re.M)
    assert listed == rules
