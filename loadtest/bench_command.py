"""``sentinel bench``: what the product costs, side by side in one run."""

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sentinel.console import note, print_json, progress, table
from sentinel.errors import UsageError

Part = Literal["core", "serving", "profiles", "kafka"]
PARTS: tuple[Part, ...] = ("core", "serving", "profiles", "kafka")

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a part came to: its keys of the result, and its tables, each a title, column names and
    rows."""

    content: dict[str, Any]
    tables: Sequence[tuple[str, list[str], list[list[str]]]]
    plot: bytes | None = None
    """An SVG."""


def bench(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for a JSON file and the tables of each part; made if missing."),
    ] = None,
    only: Annotated[
        Part | None,
        typer.Option(
            help="Measure this part alone; the other parts' files stay.", show_default="all"
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure the service and the limit alone, briefly, and hold their ratios against "
            "this earlier result: exit code 1 where one fell below its band.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Time the core step by step, the service beside others, and with profiles beside none.

    Services are measured by wrk, which must be on PATH. What else is needed is installed below
    build/, where it can be; Redis is measured where redis-server is.

    Example: sentinel bench --out bench
    """
    # As an interrupt does: what was started has a session of its own, and would go on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if against is not None:
        if only is not None or out is not None:
            raise UsageError("--against measures on its own; expected no --only and no --out")
        _compare(against, json)
        return
    from loadtest.machine import describe_machine

    parts = PARTS if only is None else (only,)
    head: dict[str, Any] = {"machine": describe_machine(), "command": "sentinel bench"}
    measured: dict[str, Measurement] = {}
    with progress("starting") as step:
        for part in parts:
            measured[part] = _measure(part, step)
            if out is not None:  # at once: a later part may fail
                _write(out, part, head, measured[part])
    if json:
        print_json(head | whole_result([each.content for each in measured.values()]))
    else:
        for each in measured.values():
            for title, columns, rows in each.tables:
                table(title, rows, columns)


def _compare(committed: Path, json: bool) -> None:
    """:raises Slower: a ratio fell below its band."""
    from loadtest.quick_bench import (
        check_bands,
        compare,
        compared_table,
        measure_quickly,
        read_result,
    )

    before = read_result(committed)
    with progress("starting") as step:
        found = measure_quickly(step)
    compared = compare(before, found)
    if json:
        print_json({"compared": compared, "rows": found.rows})
    else:
        columns, rows = compared_table(compared)
        table(f"Beside {committed}", rows, columns)
    check_bands(compared)


def whole_result(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The keys of all parts in one object, with every contender there is."""
    import msgspec

    from loadtest.cells import ServeBench, together

    core = {key: value for part in parts if "core" in part for key, value in part.items()}
    serving = [msgspec.convert(part, ServeBench) for part in parts if "contenders" in part]
    return core | (msgspec.to_builtins(together(serving)) if serving else {})


def _measure(part: Part, step: OnStep) -> Measurement:
    if part == "core":
        return _core(step)
    import msgspec

    from loadtest.cells import ratio_table, serve_table

    if part == "serving":
        from loadtest.serve_bench import measure_serving
        from loadtest.serving_plot import serving_plot
        from loadtest.serving_report import serving_tables

        found = measure_serving(step)
        tables = [(title, *drawn) for title, drawn in serving_tables(found)]
        return Measurement(msgspec.to_builtins(found), tables, serving_plot(found))
    if part == "kafka":
        from loadtest.stream_bench import measure_stream

        found = measure_stream(step)
        title = "The stream, exactly once"
        tables = [(title, *serve_table(found)), ("Beside each other", *ratio_table(found))]
        return Measurement(msgspec.to_builtins(found), tables)
    from loadtest.profile_bench import measure_profile_serving

    found = measure_profile_serving(step)
    title = "The service with profiles and without"
    tables = [(title, *serve_table(found)), ("Beside each other", *ratio_table(found))]
    return Measurement(msgspec.to_builtins(found), tables)


def _core(step: OnStep) -> Measurement:
    from loadtest.core_bench import core_table, measure_core
    from loadtest.profile_core import measure_profiles, profile_table

    core, profiles = measure_core(step), measure_profiles(step)
    return Measurement(
        {"core": core, "profiles": profiles},
        [
            ("The core, one thread", *core_table(core)),
            ("Profiles, one thread", *profile_table(profiles)),
        ],
    )


def _write(folder: Path, part: str, head: dict[str, Any], measured: Measurement) -> None:
    import msgspec

    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(head | measured.content), indent=1)
    (folder / f"{part}.json").write_bytes(encoded + b"\n")
    tables = (markdown(columns, rows) for _, columns, rows in measured.tables)
    (folder / f"{part}.md").write_text("\n\n".join(tables) + "\n")
    if measured.plot is not None:
        (folder / f"{part}.svg").write_bytes(measured.plot)
    note(f"written: {folder / part}.json, {folder / part}.md")


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table whose first column stands left and all others right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
