"""``sentinel serve``: the recommended environment, a local Ray, and the application on it."""

import json
import os
import shlex
import socket
import threading
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from sentinel.console import note, progress
from sentinel.dataset import DatasetDescription
from serve_app.serve_config import CannotServe, ServeConfig, read_config

ENVIRONMENT = {
    # A model runs one thread: several pools on two cores cost two thirds of the speed.
    "OMP_NUM_THREADS": "1",
    # Whoever reaches Ray's ports can run code as this user. They are on loopback, but loopback is
    # shared by everyone on the machine, and each replica's own gRPC port is not even there: Ray
    # binds it to every interface. So callers need the token in ~/.ray/auth_token.
    "RAY_AUTH_MODE": "token",
    # Ray's switch for "this machine only", on by default on macOS and Windows: its sockets listen
    # on 127.0.0.1. Who joins this Ray must set it too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # To the log files alone: a terminal shows what this command has to say.
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
"""What ``sentinel serve`` sets where the user has not; Ray reads it when it is imported."""


def register(app: typer.Typer) -> None:
    """Adds this package's command to the ``sentinel`` command line."""
    app.command()(serve)


def serve(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG.yaml]",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Serve config; without it, the one that comes with this package.",
        ),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(metavar="URI", help="Path or URI of the bundle to serve.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on.", show_default="8000")
    ] = None,
) -> None:
    """Serve a bundle on this machine until stopped.

    Starts Ray and Ray Serve for itself alone, on loopback, and stops both at the end.

    Example: sentinel serve --bundle bundles/transactions --port 8000
    """
    from sentinel.bundle import open_bundle

    with resources.as_file(resources.files("serve_app") / "config.yaml") as packaged:
        read = read_config(config or packaged, bundle=bundle, port=port)
    opened = open_bundle(read.bundle_uri)
    check_port_is_free(read.host, read.port)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _run(read, opened.digest, opened.manifest.description)


def check_port_is_free(host: str, port: int) -> None:
    """:raises CannotServe: something listens there, or this machine has no such address.

    Serve itself shares a port with whoever has it already, and would answer every other request.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of one that has just stopped do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = "stop what listens there, or choose another with --port"
            problem = f"cannot listen on {host}:{port}: {error.strerror}"
            raise CannotServe(f"{problem}; {advice}") from error


def _run(config: ServeConfig, digest: str, description: DatasetDescription) -> None:
    # Ray reads the environment when it is imported.
    from serve_app.local_serve import local_serve, stop_on_signal, wait_until_ready

    stopped = threading.Event()
    with ExitStack() as running:
        with progress("starting Ray") as step:
            stop_on_signal(stopped)
            logs = running.enter_context(local_serve(config))
            stop_on_signal(stopped)
            ready = wait_until_ready(config, stopped, step)
        if ready:
            _say_ready(config, digest, description, logs)
            stopped.wait()
        note("stopping")


def _say_ready(
    config: ServeConfig, digest: str, description: DatasetDescription, logs: str
) -> None:
    from serve_app.openapi import example

    url = f"http://{config.host}:{config.port}"
    body = shlex.quote(json.dumps(example(description), ensure_ascii=False))
    note(f"ready at {url} (API: {url}/docs), model version {digest[:12]}; Ctrl-C stops it")
    note(f"logs: {logs}")
    note(f"try: curl {url}/predict -H 'content-type: application/json' -d {body}")
