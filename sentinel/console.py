"""What commands print: results on standard output, everything else on standard error."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

OnStep = Callable[..., None]


def note(text: str) -> None:
    """One line for a person."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def print_json(result: Any) -> None:
    """The result of a command as one JSON object on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(result), indent=2).decode() + "\n")


def table(title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> None:
    """A small table for a person, on standard output: it is the result."""
    drawn = Table(title=title, title_justify="left", show_header=bool(columns), box=None)
    width = len(columns) or len(rows[0])
    for at in range(width):
        name = columns[at] if columns else ""
        drawn.add_column(name, justify="left" if at == 0 else "right")
    for row in rows:
        drawn.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(drawn)


@contextmanager
def progress(doing: str, total: int | None = None) -> Iterator[OnStep]:
    """Shows what is being done while the block runs, where standard error is a terminal.

    Yields ``step(doing, done=None)``; ``done`` counts towards ``total``.
    """
    shown = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with shown:
        task = shown.add_task(doing, total=total)

        def step(now: str, done: int | None = None) -> None:
            shown.update(task, description=now, completed=done)

        yield step


class Pace:
    """Progress for a person: how many of a known total are done, and how fast."""

    def __init__(self, step: OnStep, total: int, what: str) -> None:
        """``step`` is what ``progress`` yields; ``what`` is counted, such as rows."""
        self._step, self._total, self._what = step, total, what
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int) -> None:
        """So many are done, those included that an earlier run did."""
        now = time.monotonic()
        self._first = self._first or (now, done)
        since, before = self._first
        rate = f", {(done - before) / (now - since):,.0f} {self._what}/s" if done > before else ""
        self._step(f"{done:,} of {self._total:,} {self._what}{rate}", done)
