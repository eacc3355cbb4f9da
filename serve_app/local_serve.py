"""Ray and Serve on this machine, for as long as one command runs."""

import asyncio
import difflib
import http.client
import logging
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import redirect_stdout
from types import TracebackType
from typing import Any, Self

import msgspec
from pydantic import BaseModel, ValidationError
from ray import serve
from ray.exceptions import RayError
from ray.serve._private.api import serve_start
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.exceptions import RayServeException
from ray.serve.schema import (
    ApplicationStatus,
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.local_ray import LocalRay
from deployments.profile_settings import PROFILES
from sentinel.console import OnStep, note
from serve_app.environment import HAPROXY_FOLDER
from serve_app.serve_config import ROUTER, CannotServe, ServeConfig
from serve_app.signals import Signals

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray would reserve 30% of the memory; the largest batch has some 30 MiB of features."""

START_SECONDS = 120.0
"""Longest wait for readiness. Far above what a small machine needs; this allows for one that is
busy with other things."""

DRAIN_SECONDS = 20.0
"""Longest wait, when stopping, for the answers to requests under way."""

OUTCOME_SECONDS = 60.0
"""Longest wait for a reload to take effect, before saying that it has not yet."""

SAVE_SECONDS = 60.0
"""Longest wait for the snapshot of profiles to be written."""

DELIVERY_SECONDS = 0.5
"""Time for HAProxy to hand over the end of the last answers once the routers have given them."""

_FAILED = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)


class LocalServe:
    """A Ray of its own with one application on it, while its block runs.

    What depends on the environment must be in it before this module is imported: see
    ``environment.set_recommended``.
    """

    def __init__(self, config: ServeConfig, signals: Signals) -> None:
        """:raises CannotServe: Serve does not accept the config."""
        self._config = config
        self._signals = signals
        self._ray = LocalRay(namespace="serve", object_store_bytes=OBJECT_STORE_BYTES)
        self._schema = _schema(config)
        self.logs = ""
        """The folder of Serve's logs."""

    def __enter__(self) -> Self:
        """Starts Ray and deploys.

        :raises CannotStartRay: another Ray runs here, or ours does not start.
        """
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            session = self._ray.start(self._signals.take)
            self.logs = os.path.join(session, "logs", "serve")
            if self._signals.stop:
                return self
            # What `serve run` does; the public way goes through Ray's dashboard.
            self._client = serve_start(
                http_options=self._schema.http_options.model_dump(),
                proxy_location=self._schema.proxy_location,
                global_logging_config=self._schema.logging_config,
            )
            self._client.deploy_apps(self._schema)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Answers what is under way, then stops everything; told twice, it does not wait."""
        try:
            if hasattr(self, "_client") and self._ray.is_alive():
                self._drain()
        except KeyboardInterrupt:
            note("not waiting any longer")
        finally:
            self._stop()

    def deploy(self, config: ServeConfig) -> None:
        """Changes the running application to this config, without waiting for it.

        :raises CannotServe: Serve does not accept it, or it differs in what is no reload.
        """
        schema = _schema(config)
        for what in ("host", "port", "application", "args"):
            old, new = getattr(self._config, what), getattr(config, what)
            if new != old:
                # Serve would stop the good replicas to start others; where it listens, not at all.
                raise CannotServe(f"{what} was {old} and is {new}: that needs a new start")
        try:
            self._client.deploy_apps(schema)
        except (RayError, RayServeException) as error:
            raise CannotServe(f"Serve did not take the config: {error}") from error
        self._config = config

    def wait_until_ready(self, step: OnStep) -> bool:
        """Waits until ``/ready`` says yes (True), or until it is told to stop (False).

        :raises CannotServe: Serve gave up on the application, or it took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._signals.stop:
            missing = self._what_is_missing()
            if missing is None:
                return True
            step(f"waiting for {missing}")
            if time.monotonic() > deadline:
                late = f"not ready after {START_SECONDS:g} s; still waiting for {missing}"
                raise CannotServe(late)
            self._signals.wait(0.1)
        return False

    def _what_is_missing(self) -> str | None:
        application = serve.status().applications.get(self._config.application)
        if application is None or application.status == ApplicationStatus.NOT_STARTED:
            return "Serve"
        if application.status in _FAILED:
            raise CannotServe(f"the application failed: {_reason(application)}")
        if application.status != ApplicationStatus.RUNNING:
            starting = [n for n, d in application.deployments.items() if d.status != "HEALTHY"]
            return ", ".join(starting) or "the application"
        return None if _is_ready(self._config.host, self._config.port) else "the first answer"

    def outcome(self, digest: str) -> str:
        """Waits until the routers answer by this bundle, and says so, or why they do not."""
        deadline = time.monotonic() + OUTCOME_SECONDS
        while not self._signals.stop and time.monotonic() < deadline:
            said = _get(self._config.host, self._config.port, "/ready")
            if said.get("model_version") == digest:
                return f"answers are by model version {digest[:12]}"
            if refused := said.get("refused"):
                return f"refused by {refused[0]['deployment']}: {refused[0]['reason']}"
            self._signals.wait(0.2)
        return "it is not served yet; /ready says what is missing"

    def refuse(self, bundle: str, reason: str) -> None:
        """Makes ``/ready``, ``/model`` and the metrics name a bundle that was not even deployed;
        an empty ``reason`` takes that back."""
        self._tell("refuse", bundle, reason)

    def _drain(self) -> None:
        """Before anything stops: a router whose lanes are gone could only answer by fallback."""
        drained = self._tell("drain", DRAIN_SECONDS, patience=DRAIN_SECONDS + 5)
        if not all(answer is True for answer in drained):  # a router may have failed instead
            note(f"not every request under way was answered within {DRAIN_SECONDS:g} s")
        for said in self._tell("save", deployment=PROFILES, patience=SAVE_SECONDS):
            if isinstance(said, str) and said:
                note(said)
        time.sleep(DELIVERY_SECONDS)

    def profiles(self) -> str:
        """Where the profiles are from (see ``FraudRouter.profiles``)."""
        return str(_get(self._config.host, self._config.port, "/ready").get("profiles", "unknown"))

    def _tell(
        self, method: str, *arguments: Any, patience: float = 10, deployment: str = ROUTER
    ) -> list[Any]:
        """What every replica of a deployment answers to this call; nothing where there is none."""

        async def ask() -> list[Any]:
            # In an event loop, since in throughput mode a handle has none of its own.
            handle = serve.get_deployment_handle(deployment, self._config.application)
            answers = handle.broadcast(method, *arguments)
            return await answers.results_async(timeout_s=patience, return_exceptions=True)

        try:
            answering = asyncio.run_coroutine_threadsafe(ask(), self._ray.loop)
            while self._ray.is_alive():  # without it a call waits for a minute
                done, _ = wait([answering], timeout=0.5)
                if done:
                    return answering.result()
            return []
        except Exception as error:
            # The application never came up, or is gone. Whatever it was, what follows must go on.
            told = f"no {deployment} was told to {method}"
            logging.getLogger(__name__).warning("%s: %s", told, error)
            return []

    def _stop(self) -> None:
        if not self._ray.started:
            self._ray.stop()
            return
        self._ray.check_not_ended()
        try:
            # Ray prints that the controller, told to stop, has stopped, and warns of our handle.
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            self._ray.stop()
            shutil.rmtree(HAPROXY_FOLDER, ignore_errors=True)


def _schema(config: ServeConfig) -> ServeDeploySchema:
    """The config as Serve takes it.

    :raises CannotServe: it does not, or would pass over a key in silence.
    """
    _check_keys(config.content, "", ServeDeploySchema)
    try:
        schema = ServeDeploySchema.model_validate(config.content)
        for application in schema.applications:
            for deployment in application.deployments:
                bounds = deployment.autoscaling_config
                if isinstance(bounds, dict):  # which the schema would let through unread
                    AutoscalingConfig.model_validate(bounds)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CannotServe(f"Serve refuses the config: {place}: {first['msg']}") from error
    return schema


_INSIDE: dict[str, type[BaseModel]] = {
    "applications": ServeApplicationSchema,
    "deployments": DeploymentSchema,
    "autoscaling_config": AutoscalingConfig,
    "autoscaling_policy": AutoscalingPolicy,
    "http_options": HTTPOptionsSchema,
    "logging_config": LoggingConfig,
    "ray_actor_options": RayActorOptionsSchema,
}
"""The models of what stands under these keys."""


def _check_keys(content: Mapping[str, Any], place: str, model: type[BaseModel]) -> None:
    """:raises CannotServe: a key that Serve does not know, and would pass over."""
    for key, value in content.items():
        here = f"{place}.{key}".lstrip(".")
        if key not in model.model_fields:
            close = difflib.get_close_matches(key, model.model_fields, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise CannotServe(f"Serve refuses the config: {here}: unknown key{hint}")
        if key in _INSIDE:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, Mapping):
                    _check_keys(inner, here, _INSIDE[key])


def _reason(application: Any) -> str:
    """The line that names the cause in what Serve says about a failure."""
    messages: Mapping[str, str] = {n: d.message for n, d in application.deployments.items()}
    failed = [text for text in (application.message, *messages.values()) if text]
    lines = [line.strip() for text in failed for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return (errors or lines or ["Serve does not say why"])[-1]


def _is_ready(host: str, port: int) -> bool:
    return _get(host, port, "/ready").get("status") == "ready"


def _get(host: str, port: int, path: str) -> dict[str, Any]:
    """The JSON object that stands there; empty where none can be had."""
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(at, port, timeout=5)
    try:
        connection.request("GET", path)
        return msgspec.json.decode(connection.getresponse().read(), type=dict[str, Any])
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return {}
    finally:
        connection.close()
