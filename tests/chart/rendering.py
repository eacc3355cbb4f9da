"""The chart as helm renders it, and what helm says where it does not."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "ray_cluster" / "chart"
BUILT = Path.home() / ".cache" / "sentinel-services" / "kube" / "bin"

Object = dict[str, Any]
Values = dict[str, Any]
Done = subprocess.CompletedProcess[str]


def helm(*arguments: str) -> Done:
    """Helm of the PATH, or the one that the services beside the checkout have built."""
    program = shutil.which("helm", path=f"{os.environ['PATH']}:{BUILT}")
    assert program, "no helm on PATH: expected Helm 3 or 4"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def template(
    *, name: str = "sentinel", values: Values | None = None, production: bool = False
) -> Done:
    """What ``helm template`` does with these values over the trial's, or production's."""
    settings = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    files = [f"--values={CHART / 'values-production.yaml'}"] if production else []
    return helm("template", name, str(CHART), *files, *settings)


def rendered(**how: Any) -> list[Object]:
    """The objects."""
    done = template(**how)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def refusal(**how: Any) -> str:
    """The complaint about values that are refused; nothing is rendered then."""
    done = template(**how)
    assert done.returncode != 0, "these values were taken"
    assert not done.stdout
    return done.stderr


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of this kind, or of this kind and name."""
    (found,) = (
        item
        for item in objects
        if item["kind"] == kind and name in (None, item["metadata"]["name"])
    )
    return found


def cluster_of(objects: list[Object]) -> Object:
    """``rayClusterConfig`` of the RayService."""
    return one(objects, "RayService")["spec"]["rayClusterConfig"]


def pods(objects: list[Object]) -> dict[str, Object]:
    """Every pod template of the chart, by what it is."""
    cluster = cluster_of(objects)
    found = {"head": cluster["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    for item in objects:
        if item["kind"] == "StatefulSet":
            found[item["metadata"]["name"]] = item["spec"]["template"]
    return found


def serve_config(objects: list[Object]) -> Object:
    """The Serve config that KubeRay hands to Ray."""
    return yaml.safe_load(one(objects, "RayService")["spec"]["serveConfigV2"])
