"""This package's subcommands, each in a module of its own."""

import typer

from kafka_ingest.ingest_command import ingest
from kafka_ingest.produce_command import produce
from kafka_ingest.replay_command import replay


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(ingest)
    app.command()(produce)
    app.command()(replay)
