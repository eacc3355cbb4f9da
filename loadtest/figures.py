"""Writes the tables of ``bench/`` into the pages that show them: ``python -m loadtest.figures``.

A page shows a table under a heading of its own. What is written replaces the table that stands
there, so that figures in the documents are those of the files and nobody copies one by hand.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.console import note
from sentinel.errors import SentinelError

BENCH = "bench"
README, PAGE = "README.md", "docs/benchmarks.md"
AUTOSCALING, KAFKA = "docs/autoscaling.md", "docs/kafka.md"
QUALITY, NOVELTY = "docs/quality.md", "docs/novelty.md"


class NoPlace(SentinelError):
    """A page has no place for a table; says which heading lacks it, or which file."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The tables of a file that stand under a heading of a page, by their place in the file."""

    page: str
    heading: str
    file: str
    tables: Sequence[int]


SHOWN = (
    Shown(README, "Quality on the creditcard data", "creditcard.md", [0]),
    Shown(README, "Speed of the service", "serving.md", [0, 2]),
    Shown(README, "Speed with profiles", "profiles.md", [0, 1]),
    Shown(README, "Speed of profiles", "core.md", [1]),
    Shown(README, "Speed of the core", "core.md", [0]),
    Shown(PAGE, "Ratios", "serving.md", [1]),
    Shown(PAGE, "At a constant rate, and past what it can", "serving.md", [3]),
    Shown(PAGE, "Memory", "serving.md", [4]),
    Shown(PAGE, "Cores", "serving.md", [5]),
    Shown(PAGE, "Reasons", "reasons.md", [0]),
    Shown(PAGE, "Where the router's time goes", "router-profile.md", [0]),
    Shown(QUALITY, "Means over four weeks", "handbook.md", [0]),
    Shown(QUALITY, "Are the probabilities true?", "handbook.md", [1]),
    Shown(QUALITY, "What decisions cost", "handbook.md", [2]),
    Shown(QUALITY, "The creditcard data", "creditcard-splits.md", [0]),
    Shown(NOVELTY, "What is found", "unseen.md", [0]),
    Shown(NOVELTY, "False alarms", "unseen.md", [1]),
    Shown(AUTOSCALING, "A spike", "autoscale.md", [0]),
    Shown(KAFKA, "Faults", "kafka-faults.md", [0]),
    Shown(KAFKA, "Speed", "kafka.md", [0, 1]),
)

_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def write_figures(root: Path, shown: Sequence[Shown] = SHOWN) -> list[str]:
    """Writes them into the pages below this folder; the names of pages that changed.

    :raises NoPlace: a page or a file is not as expected; nothing is written then.
    """
    pages = {name: (root / name).read_text() for name in dict.fromkeys(s.page for s in shown)}
    written = dict(pages)
    for each in shown:
        tables = tables_of((root / BENCH / each.file).read_text())
        if max(each.tables) >= len(tables):
            raise NoPlace(f"{BENCH}/{each.file} has {len(tables)} tables, no {max(each.tables)}")
        wanted = [tables[at] for at in each.tables]
        written[each.page] = replaced(written[each.page], each, wanted)
    changed = [name for name, text in written.items() if text != pages[name]]
    for name in changed:
        (root / name).write_text(written[name])
    return changed


def tables_of(text: str) -> list[str]:
    """The tables in a text, in their order."""
    return _TABLE.findall(text)


def replaced(page: str, shown: Shown, tables: Sequence[str]) -> str:
    """The page with these tables in place of those under the heading.

    :raises NoPlace: there is no such heading, or not as many tables under it.
    """
    start, end = _section(page, shown)
    section = page[start:end]
    there = tables_of(section)
    if len(there) != len(tables):
        raise NoPlace(
            f"{shown.page}: {len(there)} tables under {shown.heading!r}, expected {len(tables)}"
        )
    following: Iterator[str] = iter(tables)
    return page[:start] + _TABLE.sub(lambda _: next(following), section) + page[end:]


def _section(page: str, shown: Shown) -> tuple[int, int]:
    heading = re.search(rf"^(#+) {re.escape(shown.heading)}\n", page, re.MULTILINE)
    if heading is None:
        raise NoPlace(f"{shown.page} has no heading {shown.heading!r}")
    after = re.search(rf"^#{{1,{len(heading[1])}}} ", page[heading.end() :], re.MULTILINE)
    return heading.end(), heading.end() + after.start() if after else len(page)


if __name__ == "__main__":
    for changed_page in write_figures(Path()):
        note(f"written: {changed_page}")
