"""Ray and Serve on this machine, for as long as one command runs."""

import http.client
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from sentinel.console import OnStep
from serve_app.serve_config import CannotServe, ServeConfig

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray would reserve 30% of the memory; the largest batch has some 30 MiB of features."""

START_SECONDS = 120.0
"""Longest wait for readiness. An idle machine with two cores needs about 15 s; this allows for one
that is busy with other things."""

_FAILED = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)


@contextmanager
def local_serve(config: ServeConfig) -> Iterator[str]:
    """Starts Ray and deploys ``config``; yields the folder of the logs, stops all at the end.

    What depends on the environment must be in it before this module is imported: see
    ``commands.ENVIRONMENT``.

    :raises CannotServe: Serve does not accept the config, or Ray does not start.
    """
    try:
        schema = ServeDeploySchema.model_validate(config.content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CannotServe(f"Serve refuses the config: {place}: {first['msg']}") from error
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        logs = _start_ray()
        try:
            # What `serve run` does; the public way goes through Ray's dashboard.
            client = serve_start(
                http_options=schema.http_options.model_dump(),
                proxy_location=schema.proxy_location,
                global_logging_config=schema.logging_config,
            )
            client.deploy_apps(schema)
            yield logs
        finally:
            _stop_serve()
    finally:
        ray.shutdown(wait_for_processes=True)


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


def _stop_serve() -> None:
    # Ray prints to standard output that the controller, told to stop, has stopped.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        serve.shutdown()  # type: ignore[no-untyped-call]


def stop_on_signal(stopped: threading.Event) -> None:
    """Lets the next SIGINT or SIGTERM set ``stopped``, and one after that end the process at once.

    To be called again once Ray runs: it takes SIGTERM for itself when it starts.
    """

    def stop(*_: Any) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def wait_until_ready(config: ServeConfig, stopped: threading.Event, step: OnStep) -> bool:
    """Waits until ``/ready`` says yes (True), or until it is told to stop (False).

    :raises CannotServe: Serve gave up on the application, or it took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while not stopped.wait(0.1):
        missing = _what_is_missing(config)
        if missing is None:
            return True
        step(f"waiting for {missing}")
        if time.monotonic() > deadline:
            raise CannotServe(f"not ready after {START_SECONDS:g} s; still waiting for {missing}")
    return False


def _what_is_missing(config: ServeConfig) -> str | None:
    application = serve.status().applications.get(config.application)
    if application is None or application.status == ApplicationStatus.NOT_STARTED:
        return "Serve"
    if application.status in _FAILED:
        raise CannotServe(f"the application failed: {_reason(application)}")
    if application.status != ApplicationStatus.RUNNING:
        starting = [n for n, d in application.deployments.items() if d.status != "HEALTHY"]
        return ", ".join(starting) or "the application"
    return None if _is_ready(config.host, config.port) else "the first answer"


def _reason(application: Any) -> str:
    """The line that names the cause in what Serve says about a failure."""
    messages: Mapping[str, str] = {n: d.message for n, d in application.deployments.items()}
    failed = [text for text in (application.message, *messages.values()) if text]
    lines = [line.strip() for text in failed for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return (errors or lines or ["Serve does not say why"])[-1]


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
