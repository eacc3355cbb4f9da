"""``sentinel score`` and ``sentinel profiles``."""

import typer

from deployments import profile_commands, score_command


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    score_command.register(app)
    profile_commands.register(app)
