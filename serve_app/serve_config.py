"""The Serve config as ``sentinel serve`` needs it: read, laid over, and asked for its bundle.

Checks what can be checked without Ray, whose import alone takes a second or two.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sentinel.errors import SentinelError
from serve_app.args import AppArgs

IMPORT_PATH = "serve_app.app:build"


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""


class CannotServe(SentinelError):
    """``sentinel serve`` cannot start, or could not go on; one line says why."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A Serve config with this product's application in it. ``content`` is what Serve reads."""

    content: Mapping[str, Any]
    application: str
    bundle_uri: str
    host: str
    port: int


def read_config(path: Path, *, bundle: str | None = None, port: int | None = None) -> ServeConfig:
    """The config in this YAML file, with the bundle's URI and the port laid over if given.

    The bundle's path is made absolute: replicas may have another working directory.

    :raises CannotServe: not YAML, no application of ours, or arguments it does not take.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:  # ValueError: a date such as 2018-13-45
        raise CannotServe(f"{path}: {' '.join(str(error).split())}") from error
    return _laid_over(loaded, str(path), bundle, port)


def _laid_over(loaded: Any, origin: str, bundle: str | None, port: int | None) -> ServeConfig:
    content = copy.deepcopy(loaded) if isinstance(loaded, dict) else {}
    application = _our_application(content, origin)
    args = dict(_mapping(application, "args", origin))
    if bundle is not None:
        args["bundle"] = bundle
    try:
        uri = AppArgs.model_validate(args).bundle_uri
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["args", *map(str, first["loc"])])
        known = ", ".join(AppArgs.model_fields)
        unknown = first["type"] == "extra_forbidden"
        problem = f"unknown argument; known: {known}" if unknown else first["msg"]
        raise CannotServe(f"{origin}: {place}: {problem}") from error
    application["args"] = {**args, "bundle": uri}
    http = content["http_options"] = dict(_mapping(content, "http_options", origin))
    if port is not None:
        http["port"] = port
    # Without a host Ray would listen on every interface; 8000 is its default too.
    host = http.setdefault("host", "127.0.0.1")
    listening = http.setdefault("port", 8000)
    if host not in LOOPBACK:
        raise CannotServe(
            f"{origin}: http_options.host is {host!r}, expected one of {', '.join(LOOPBACK)}: "
            "this release has no API keys, so it serves this machine alone"
        )
    if not isinstance(listening, int) or not 0 < listening < 2**16:
        raise CannotServe(f"{origin}: http_options.port is {listening!r}, expected 1 to 65535")
    return ServeConfig(content, str(application["name"]), uri, host, listening)


def _our_application(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
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
