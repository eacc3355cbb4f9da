"""This package's subcommands, each in a module of its own."""

import typer

from kafka_ingest.produce_command import produce


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(produce)
