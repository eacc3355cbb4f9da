"""Serve configs to measure by: the shipped one, with what a place may lay over it."""

from pathlib import Path
from typing import Any

import yaml

from sentinel.errors import SentinelError

CONFIG = Path(__file__).parents[1] / "serve_app" / "config.yaml"


def shipped() -> dict[str, Any]:
    """The config that comes with the product."""
    content: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    return content


def sized(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The deployments of a config whose replicas follow the load.

    :raises SentinelError: there is none: nothing would be laid over anything.
    """
    (application,) = content["applications"]
    found = [each for each in application["deployments"] if "autoscaling_config" in each]
    if not found:
        raise SentinelError(f"{CONFIG} has no deployment with an autoscaling_config")
    return found


def fixed(folder: Path, replicas: int = 1) -> Path:
    """A file with the shipped config in which no replica comes or goes, in this folder: whoever is
    measured for seconds would otherwise be measured with its new replicas starting."""
    content = shipped()
    for deployment in sized(content):
        bounds = {"min_replicas": replicas, "max_replicas": replicas}
        deployment["autoscaling_config"] = {**deployment["autoscaling_config"], **bounds}
    file = folder / f"fixed-{replicas}.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file
