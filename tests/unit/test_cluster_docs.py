"""docs/cluster.md says what there is."""

import re
from pathlib import Path

import typer
from typer.main import get_command

from ray_cluster.commands import register
from ray_cluster.health import Word

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()


def documented(heading: str) -> set[str]:
    """First cells of the table under a heading, without backticks."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| `?([\w-]+)`? \|", section, re.MULTILINE)
    return set(cells) - {"word", "row"}


def test_every_command_is_documented_with_an_example_in_its_help() -> None:
    app = typer.Typer()
    register(app)
    cluster = get_command(app)
    commands = getattr(cluster, "commands")  # noqa: B009
    group = commands["cluster"].commands if "cluster" in commands else commands
    assert documented("## Commands") - {"promote"} == set(group) - {"promote"}
    for name, command in group.items():
        assert f"Example: sentinel cluster {name}" in str(command.help)


def test_every_word_for_a_services_health_is_explained() -> None:
    assert documented("### How a service is") == {word.value for word in Word}


def test_what_was_seen_in_pods_is_the_committed_run() -> None:
    assert (ROOT / "bench" / "cluster.md").read_text().strip() in PAGE
