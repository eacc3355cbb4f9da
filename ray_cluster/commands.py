"""This package's commands: ``sentinel cluster …``."""

import typer

from ray_cluster.gitops_commands import bounds, check, promote, smoke
from ray_cluster.release_commands import deploy, drift, render, rollback
from ray_cluster.service_commands import logs, scale, status, wait


def register(app: typer.Typer) -> None:
    """Adds them to the ``sentinel`` command line."""
    cluster = typer.Typer(
        name="cluster",
        help="The service on a Kubernetes cluster with KubeRay.",
        no_args_is_help=True,
    )
    for command in (render, deploy, status, wait, scale, drift, rollback, logs):
        cluster.command()(command)
    for gitops in (promote, check, smoke, bounds):
        cluster.command()(gitops)
    app.add_typer(cluster)
