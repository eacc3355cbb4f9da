"""Ray and Serve on this machine, for as long as one command runs."""

import http.client
import logging
import os
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from types import TracebackType
from typing import Any, Self

import ray
from pydantic import ValidationError
from ray import serve
from ray._private.services import find_gcs_addresses
from ray.exceptions import RayError
from ray.serve._private.api import serve_start
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from sentinel.console import OnStep, note
from serve_app.serve_config import CannotServe, ServeConfig
from serve_app.signals import Signals

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray would reserve 30% of the memory; the largest batch has some 30 MiB of features."""

START_SECONDS = 120.0
"""Longest wait for readiness. An idle machine with two cores needs about 15 s; this allows for one
that is busy with other things."""

DRAIN_SECONDS = 20.0
"""Longest wait, when stopping, for the answers to requests under way."""

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
        self._schema = _schema(config)
        self.logs = ""
        """The folder of Serve's logs."""

    def __enter__(self) -> Self:
        """Starts Ray and deploys.

        :raises CannotServe: another Ray runs here, or ours does not start.
        """
        if others := find_gcs_addresses():  # type: ignore[no-untyped-call]
            raise CannotServe(
                f"another Ray cluster runs on this machine ({', '.join(sorted(others))}), and two "
                "would take each other's ports; expected none: stop it first"
            )
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            self.logs = _start_ray()
            self._signals.take()  # back from Ray
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

    def _drain(self) -> None:
        """Before anything stops: a router whose lanes are gone could only answer by fallback."""
        try:
            router = serve.get_app_handle(self._config.application)
            drained = router.broadcast("drain", DRAIN_SECONDS).results(timeout_s=DRAIN_SECONDS + 5)
        except Exception as error:
            # It never came up, or is gone: nothing is under way there. Whatever it was, the
            # processes must still be ended.
            logging.getLogger(__name__).debug("no drain: %s", error)
            return
        if not all(drained):
            note(f"not every request under way was answered within {DRAIN_SECONDS:g} s")

    def _stop(self) -> None:
        try:
            # Ray prints to standard output that the controller, told to stop, has stopped.
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown(wait_for_processes=True)


def _schema(config: ServeConfig) -> ServeDeploySchema:
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


def _start_ray() -> str:
    """Starts a Ray of our own, on free ports, and returns the folder of Serve's logs."""
    try:
        context: Any = ray.init(
            address="local",
            namespace="serve",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise CannotServe(f"Ray does not start: {' '.join(str(error).split())}") from error
    return os.path.join(context.address_info["session_dir"], "logs", "serve")


def _reason(application: Any) -> str:
    """The line that names the cause in what Serve says about a failure."""
    messages: Mapping[str, str] = {n: d.message for n, d in application.deployments.items()}
    failed = [text for text in (application.message, *messages.values()) if text]
    lines = [line.strip() for text in failed for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return (errors or lines or ["Serve does not say why"])[-1]


def _is_ready(host: str, port: int) -> bool:
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(at, port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
