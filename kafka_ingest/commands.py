"""This package's subcommands, each in a module of its own."""

import typer


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
