"""This package's commands: ``sentinel bench`` and ``sentinel load``."""

import typer

from loadtest.bench_command import bench
from loadtest.load_command import load


def register(app: typer.Typer) -> None:
    """Adds them to the ``sentinel`` command line."""
    app.command()(bench)
    app.command()(load)
