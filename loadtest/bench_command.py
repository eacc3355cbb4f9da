"""``sentinel bench``: what the product costs, side by side in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sentinel.console import note, print_json, progress, table

Part = Literal["core", "serving", "profiles"]
PARTS: tuple[Part, ...] = ("core", "serving", "profiles")

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a part came to: its keys of the result, and its tables, each a title, column names and
    rows."""

    content: dict[str, Any]
    tables: Sequence[tuple[str, list[str], list[list[str]]]]


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
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Time the core step by step, the service beside the bare limit, and with profiles beside none.

    Services are measured by wrk, which must be on PATH; Redis is measured where redis-server is.

    Example: sentinel bench --out bench
    """
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

        found, title = measure_serving(step), "The service beside the limit"
    else:
        from loadtest.profile_bench import measure_profile_serving

        found, title = measure_profile_serving(step), "The service with profiles and without"
    ratios = ("Beside each other", *ratio_table(found))
    return Measurement(msgspec.to_builtins(found), [(title, *serve_table(found)), ratios])


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
    note(f"written: {folder / part}.json, {folder / part}.md")


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table whose first column stands left and all others right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
