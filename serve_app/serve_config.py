"""The Serve config as ``sentinel serve`` needs it: read, laid over, and asked for its bundle.

Checks what can be checked without Ray, whose import alone takes a second or two.
"""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from deployments.bundle_ref import BundleRef
from deployments.profile_settings import PROFILES
from sentinel.errors import SentinelError
from sentinel.scaling_settings import ScalingSettings
from serve_app.args import AppArgs, Placement

IMPORT_PATH = "serve_app.app:build"
SCALING_POLICY = "deployments.autoscaling:ReplicasByQueue"
"""Our ``autoscaling_policy``; its ``policy_kwargs`` are ``ScalingSettings`` and ``queue``."""

ROUTER = "FraudRouter"
"""The router's deployment, in the Serve config, the dashboard and metrics."""

LANES = ("XGBoost", "IsolationForest")
"""The deployments of the models, where those stand apart from the router."""

DEPLOYMENTS = (ROUTER, PROFILES, *LANES)
"""The deployments of the application: each has the bundle in its ``user_config``."""

DEFAULT_BUNDLE = "bundles/transactions"


Model = TypeVar("Model", bound=BaseModel)


class CannotServe(SentinelError):
    """``sentinel serve`` cannot start, or could not go on; one line says why."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a place may lay over the config; ``None`` leaves what is there."""

    bundle: str | None = None
    host: str | None = None
    port: int | None = None
    api_keys: str | None = None
    allow_anonymous: bool | None = None
    profiles: str | None = None
    history: str | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A Serve config with this product's application in it. ``content`` is what Serve reads."""

    content: Mapping[str, Any]
    application: str
    bundle: BundleRef
    host: str
    port: int
    args: AppArgs

    def with_digest(self, digest: str) -> "ServeConfig":
        """The same, with the bundle's digest: what replicas load must be this very bundle."""
        content = copy.deepcopy(dict(self.content))
        bundle = self.bundle.model_copy(update={"digest": digest})
        for deployment in _ours(content, "")["deployments"]:
            if deployment["name"] in DEPLOYMENTS:
                deployment["user_config"] = bundle.model_dump()
        return replace(self, content=content, bundle=bundle)


def read_config(path: Path, overlay: Overlay = Overlay()) -> ServeConfig:
    """The config in this YAML file with ``overlay`` on it.

    Paths are made absolute: replicas may have another working directory.

    :raises CannotServe: not YAML, no application of ours, or arguments it does not take.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:  # ValueError: a date such as 2018-13-45
        raise CannotServe(f"{path}: {' '.join(str(error).split())}") from error
    origin = str(path)
    content = copy.deepcopy(loaded) if isinstance(loaded, dict) else {}
    application = _ours(content, origin)
    _check_scaling(application, origin)
    args = _lay_args(application, origin, overlay)
    names = DEPLOYMENTS if args.placement == "separate" else DEPLOYMENTS[: -len(LANES)]
    bundle = _lay_bundle(application, origin, overlay.bundle, names)
    host, port = _lay_http(content, origin, overlay)
    return ServeConfig(content, str(application["name"]), bundle, host, port, args)


def _check_scaling(application: Mapping[str, Any], origin: str) -> None:
    """Wrong settings would only show in Serve's controller, which takes the application's place."""
    policy = _mapping(application, "autoscaling_policy", origin)
    if policy.get("policy_function") != SCALING_POLICY:
        return
    settings = dict(_mapping(policy, "policy_kwargs", f"{origin}: autoscaling_policy"))
    settings.pop("queue", None)
    unknown = "unknown setting; docs/autoscaling.md lists them"
    _validated(ScalingSettings, settings, origin, "autoscaling_policy.policy_kwargs", unknown)


def _lay_args(application: dict[str, Any], origin: str, overlay: Overlay) -> AppArgs:
    args = dict(_mapping(application, "args", origin))
    if overlay.api_keys is not None:
        args["api_keys"] = overlay.api_keys
    if overlay.allow_anonymous is not None:
        args["allow_anonymous"] = overlay.allow_anonymous
    if overlay.placement is not None:
        args["placement"] = overlay.placement
    profiles = dict(_mapping(args, "profiles", f"{origin}: args"))
    if overlay.profiles is not None:
        profiles["uri"] = overlay.profiles
    if overlay.history is not None:
        profiles["history"] = overlay.history
    for place in ("uri", "history"):
        if isinstance(profiles.get(place), str) and profiles[place]:
            profiles[place] = _absolute(profiles[place])
    if profiles:
        args["profiles"] = profiles
    if isinstance(args.get("api_keys"), str) and args["api_keys"]:
        args["api_keys"] = os.path.abspath(os.path.expanduser(args["api_keys"]))
    application["args"] = args
    unknown = "unknown argument; docs/serving.md lists them"
    return _validated(AppArgs, args, origin, "args", unknown)


def _validated(
    model: type[Model], values: Mapping[str, Any], origin: str, place: str, unknown: str
) -> Model:
    """What stands at ``place`` of the config; ``unknown`` is said of a key it does not have."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([place, *map(str, first["loc"])])
        problem = unknown if first["type"] == "extra_forbidden" else first["msg"]
        raise CannotServe(f"{origin}: {where}: {problem}") from error


def _lay_bundle(
    application: dict[str, Any], origin: str, uri: str | None, names: Sequence[str]
) -> BundleRef:
    """Puts the bundle into the ``user_config`` of each deployment of these names and returns it.
    Of our deployments the others go: Serve refuses what the application does not have."""
    listed = application.setdefault("deployments", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise CannotServe(f"{origin}: deployments is {listed!r:.80}, expected a list of mappings")
    unused = set(DEPLOYMENTS) - set(names)
    listed[:] = [deployment for deployment in listed if deployment.get("name") not in unused]
    deployments = {deployment.get("name"): deployment for deployment in listed}
    found = []
    for name in names:
        if name not in deployments:
            deployments[name] = {"name": name}
            listed.append(deployments[name])
        found.append(_bundle_of(deployments[name], origin))
    if uri is None and any(bundle != found[0] for bundle in found):
        said = ", ".join(f"{n}: {b.bundle}" for n, b in zip(names, found, strict=True))
        raise CannotServe(f"{origin}: user_config must be one for all deployments ({said})")
    chosen = found[0] if uri is None else BundleRef(bundle=uri)
    bundle = chosen.model_copy(update={"bundle": _absolute(chosen.bundle)})
    for name in names:
        deployments[name]["user_config"] = bundle.model_dump(exclude_none=True)
    return bundle


def _bundle_of(deployment: dict[str, Any], origin: str) -> BundleRef:
    user_config = _mapping(deployment, "user_config", origin) or {"bundle": DEFAULT_BUNDLE}
    try:
        return BundleRef.model_validate(user_config)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        place = ".".join([str(deployment["name"]), "user_config", *map(str, first["loc"])])
        raise CannotServe(f"{origin}: {place}: {first['msg']}") from error


def _lay_http(content: dict[str, Any], origin: str, overlay: Overlay) -> tuple[str, int]:
    http = content["http_options"] = dict(_mapping(content, "http_options", origin))
    if overlay.port is not None:
        http["port"] = overlay.port
    if overlay.host is not None:
        http["host"] = overlay.host
    # Without a host Ray would listen on every interface; 8000 is its default too.
    host, port = http.setdefault("host", "127.0.0.1"), http.setdefault("port", 8000)
    if not isinstance(host, str):
        raise CannotServe(f"{origin}: http_options.host is {host!r}, expected a host")
    if not isinstance(port, int) or not 0 < port < 2**16:
        raise CannotServe(f"{origin}: http_options.port is {port!r}, expected 1 to 65535")
    return host, port


def _absolute(uri: str) -> str:
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _ours(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    applications = content.get("applications")
    for application in applications if isinstance(applications, list) else []:
        if isinstance(application, dict) and application.get("import_path") == IMPORT_PATH:
            application.setdefault("name", "default")
            return application
    raise CannotServe(f"{origin}: no application with import_path: {IMPORT_PATH}")


def _mapping(content: Mapping[str, Any], key: str, origin: str) -> Mapping[str, Any]:
    """The mapping under this key, empty where nothing stands there."""
    found = content.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise CannotServe(f"{origin}: {key} is {found!r}, expected a mapping")
    return found or {}
