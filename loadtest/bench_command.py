"""``sentinel bench``: what the product costs, side by side in one run."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sentinel.console import note, print_json, progress, table

Part = Literal["core", "serving"]


def bench(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for a JSON file and a table of each part; made if missing."),
    ] = None,
    only: Annotated[
        Part | None, typer.Option(help="Measure this part alone.", show_default="both")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Time the core step by step, and the service beside the bare limit.

    The service and the limit run at once and are measured in turn by wrk, which must be on PATH.

    Example: sentinel bench --out bench
    """
    from loadtest.machine import describe_machine

    result: dict[str, Any] = {"machine": describe_machine(), "command": "sentinel bench"}
    tables: dict[str, tuple[str, list[str], list[list[str]]]] = {}
    with progress("starting") as step:
        if only != "serving":
            from loadtest.core_bench import core_table, measure_core

            core = measure_core(step)
            result["core"] = core
            tables["core"] = ("The core, one thread", *core_table(core))
        if only != "core":
            from loadtest.serve_bench import measure_serving, serve_table, serving_result

            serving = measure_serving(step)
            result |= serving_result(serving)
            tables["serving"] = ("The service beside the limit", *serve_table(serving))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for part, (_, columns, rows) in tables.items():
            _write(out, part, result, columns, rows)
    if json:
        print_json(result)
    else:
        for title, columns, rows in tables.values():
            table(title, rows, columns)


def _write(
    folder: Path, part: str, result: dict[str, Any], columns: list[str], rows: list[list[str]]
) -> None:
    import msgspec

    keys = {"core": ("core",), "serving": ("contenders", "reasons", "rows", "ratios")}[part]
    content = {key: result[key] for key in ("machine", "command", *keys)}
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    (folder / f"{part}.json").write_bytes(encoded + b"\n")
    (folder / f"{part}.md").write_text(markdown(columns, rows) + "\n")
    note(f"written: {folder / part}.json, {folder / part}.md")


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table whose first column stands left and all others right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
