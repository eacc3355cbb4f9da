"""The ``sentinel`` command line.

Subcommands live in the packages they drive and are found by their entry points: each entry of the
group ``sentinel.commands`` names a ``register(app)``. Those modules import what is heavy only when
a command runs, so ``sentinel --help`` is quick.
"""

import os
import sys
from importlib.metadata import entry_points
from typing import NoReturn

import typer

from sentinel.console import note
from sentinel.errors import DescriptionError, SentinelError, UsageError

ENTRY_POINTS = "sentinel.commands"


def build_app() -> typer.Typer:
    """The command line with every installed package's commands."""
    app = typer.Typer(
        name="sentinel",
        help="Real-time card-fraud scoring on Ray Serve.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root() -> None:
        """Real-time card-fraud scoring on Ray Serve."""

    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        entry.load()(app)
    return app


def main() -> NoReturn:
    """Runs a command; a refusal is one line on standard error and exit code 1, or 2 where the
    command was used wrongly."""
    try:
        build_app()()
    except SentinelError as error:
        note(f"sentinel: {error}")
        sys.exit(2 if isinstance(error, DescriptionError | UsageError) else 1)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
