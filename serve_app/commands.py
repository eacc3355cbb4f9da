"""``sentinel serve`` and ``sentinel key``."""

import os
import socket
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel.console import note, progress
from sentinel.errors import BundleError, SentinelError, UsageError
from serve_app.args import Placement
from serve_app.environment import as_shell, set_recommended
from serve_app.exposure import check_exposure
from serve_app.serve_config import CannotServe, Overlay, ServeConfig, read_config
from serve_app.signals import Signals

if TYPE_CHECKING:
    from sentinel.bundle import Bundle
    from serve_app.local_serve import LocalServe


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(serve)
    app.command()(key)


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
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; any but this machine's own needs keys.",
            show_default="127.0.0.1",
        ),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Hashed API keys; 'sentinel key' adds one to it."),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve other machines without keys.")
    ] = False,
    profiles: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="redis://… keeps profiles there; a path, a snapshot that is written when this "
            "stops and read when it starts.",
        ),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Labelled table that profiles start from, not the bundle's."
        ),
    ] = None,
    placement: Annotated[
        Placement | None,
        typer.Option(
            help="The models in deployments of their own, or in the router's process.",
            show_default="separate",
        ),
    ] = None,
    print_env: Annotated[
        bool,
        typer.Option(
            "--print-env", help="Only print the recommended environment, for 'serve run'."
        ),
    ] = False,
) -> None:
    """Serve a bundle on this machine until stopped.

    Starts Ray and Ray Serve for itself alone, on loopback, and stops both at the end; requests
    under way are answered first. SIGHUP makes it read the config and the bundle again.

    Example: sentinel serve --bundle bundles/transactions --port 8000
    """
    if print_env:
        typer.echo(as_shell())
        return
    overlay = Overlay(
        bundle=bundle,
        host=host,
        port=port,
        api_keys=None if api_keys is None else str(api_keys),
        allow_anonymous=True if allow_anonymous else None,
        profiles=profiles,
        history=history,
        placement=placement,
    )
    with resources.as_file(resources.files("serve_app") / "config.yaml") as packaged:
        _run(config or packaged, overlay)


def key(
    name: Annotated[str, typer.Option(help="Whose key it is, for people and logs.")],
    scopes: Annotated[
        str, typer.Option(help="What it opens, separated by commas: score, label, read.")
    ] = "score",
    file: Annotated[
        Path, typer.Option(metavar="FILE", help="File of hashed keys; made if missing.")
    ] = Path("api-keys.yaml"),
) -> None:
    """Make an API key: print it once, and add its hash to a file.

    Example: sentinel key --name checkout --scopes score,read --file api-keys.yaml
    """
    from serve_app.keys import SCOPES, add_key

    wanted = tuple(scope.strip() for scope in scopes.split(","))
    known = [scope for scope in SCOPES if scope in wanted]
    if len(known) != len(wanted):
        raise UsageError(f"--scopes is {scopes!r}; expected some of {', '.join(SCOPES)}")
    secret = add_key(file, name, tuple(known))
    note(f"added to {file}: {name} ({', '.join(known)}). The key is not kept; here it is:")
    typer.echo(secret)


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


def _run(file: Path, overlay: Overlay) -> None:
    config, opened = _checked(file, overlay)
    check_port_is_free(config.host, config.port)
    set_recommended(os.environ)
    # Ray reads the environment when it is imported.
    from serve_app.local_serve import LocalServe
    from serve_app.start_page import show_start_page

    signals = Signals()
    signals.take()
    with ExitStack() as running:
        with progress("starting Ray") as step:
            serving = running.enter_context(LocalServe(config, signals))
            ready = serving.wait_until_ready(step)
        if ready:
            show_start_page(config, opened, serving.logs, serving.profiles())
        while not signals.stop:
            signals.wait()
            if signals.take_reload():
                _reload(file, overlay, serving)
        note("stopping: requests under way are answered first")


def _checked(file: Path, overlay: Overlay) -> "tuple[ServeConfig, Bundle]":
    """The config, with the digest of its bundle, and the bundle: everything that can be wrong
    without Ray is found here, at the start and at each reload.

    :raises SentinelError: something is.
    """
    from sentinel.bundle import open_bundle
    from serve_app.keys import read_keys

    config = read_config(file, overlay)
    check_exposure(config.args, config.host)
    if config.args.api_keys is not None:
        read_keys(Path(config.args.api_keys))
    opened = open_bundle(config.bundle.bundle)
    if config.bundle.digest not in (None, opened.digest):
        held, wanted = opened.digest, config.bundle.digest
        raise CannotServe(f"{opened.uri} holds bundle {held}, the config says {wanted}")
    return config.with_digest(opened.digest), opened


def _reload(file: Path, overlay: Overlay, serving: "LocalServe") -> None:
    """Reads the config and the bundle again; what cannot be used changes nothing."""
    try:
        config, opened = _checked(file, overlay)
        serving.deploy(config)
        serving.refuse(config.bundle.bundle, "")
    except BundleError as error:
        note(f"nothing changed: {error}")
        serving.refuse(overlay.bundle or str(file), str(error))
    except SentinelError as error:
        note(f"nothing changed: {error}")
    else:
        note(f"told to serve model version {opened.digest[:12]} ({opened.uri})")
        note(serving.outcome(opened.digest))
