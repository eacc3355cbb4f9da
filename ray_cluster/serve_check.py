"""What KubeRay takes in silence, refused: a Serve config that Serve would not run.

The API server sees ``serveConfigV2`` as a string, and the operator hands it on; a misspelt key, or
YAML that does not parse, would show as a service that never turns ready, or not at all.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ray_cluster.errors import CannotRender
from ray_cluster.objects import Manifest
from sentinel.scaling_settings import ScalingSettings

LONGEST_NAME = 47
"""Characters: KubeRay makes names of pods and Services from it, within Kubernetes' 63."""

OUR_POLICY = "deployments.autoscaling:ReplicasByQueue"


def check_service(service: Manifest) -> None:
    """A RayService's name and its Serve config, by Ray's own schema, unknown keys refused.

    :raises CannotRender: names the first key at fault, and what was expected.
    """
    name = service["metadata"]["name"]
    if len(name) > LONGEST_NAME:
        length = f"{len(name)} characters"
        raise CannotRender(f"the name {name!r} has {length}, expected {LONGEST_NAME} at most")
    check_serve_config(service["spec"].get("serveConfigV2", ""))


def check_serve_config(text: str) -> None:
    """:raises CannotRender: Serve would not run this; says where."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _refused("", f"no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("applications"):
        raise _refused("applications", "missing: expected at least one")
    _check_by_ray(content)
    for at, application in enumerate(content["applications"]):
        _check_policy(application, f"applications.{at}")


def _check_by_ray(content: dict[str, Any]) -> None:
    # A second or two, so only where something is about to be applied.
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    for path in _unknown(ServeDeploySchema, content, ""):
        raise _refused(path, "no such key in Ray Serve's config")
    _validate(ServeDeploySchema, content, "")
    # The schema takes any mapping for these; Serve's controller does not.
    for place, deployment in _deployments(content):
        if isinstance(deployment.get("autoscaling_config"), Mapping):
            scaling = deployment["autoscaling_config"]
            _validate(AutoscalingConfig, scaling, f"{place}.autoscaling_config")


def _validate(model: type[BaseModel], content: Mapping[str, Any], place: str) -> None:
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([*([place] if place else []), *map(str, first["loc"])])
        raise _refused(where, first["msg"]) from error


def _deployments(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for at, application in enumerate(content["applications"]):
        for number, deployment in enumerate(application.get("deployments") or []):
            yield f"applications.{at}.deployments.{number}", deployment


def _unknown(model: type[BaseModel], content: Mapping[str, Any], place: str) -> Iterator[str]:
    """Paths of keys that the model does not have: it would drop them without a word."""
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    for key, value in content.items():
        path = f"{place}{key}"
        if key not in fields:
            yield path
            continue
        inner = _model_in(fields[key].annotation)
        if inner is None:
            continue
        if isinstance(value, Mapping):
            yield from _unknown(inner, value, f"{path}.")
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _unknown(inner, item, f"{path}.{at}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, one or a list or perhaps none of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)


def _check_policy(application: Mapping[str, Any], place: str) -> None:
    """Wrong settings of our policy would only show in Serve's controller."""
    policy = application.get("autoscaling_policy") or {}
    if policy.get("policy_function") != OUR_POLICY:
        return
    settings = {k: v for k, v in (policy.get("policy_kwargs") or {}).items() if k != "queue"}
    _validate(ScalingSettings, settings, f"{place}.autoscaling_policy.policy_kwargs")


def _refused(where: str, why: str) -> CannotRender:
    place = f"serveConfigV2, {where}" if where else "serveConfigV2"
    return CannotRender(f"{place}: {why}")
