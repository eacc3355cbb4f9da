"""This package's commands: ``sentinel cluster …``."""

import typer


def register(app: typer.Typer) -> None:
    """Adds them to the ``sentinel`` command line."""
    cluster = typer.Typer(
        name="cluster",
        help="The service on a Kubernetes cluster with KubeRay.",
        no_args_is_help=True,
    )
    app.add_typer(cluster)
