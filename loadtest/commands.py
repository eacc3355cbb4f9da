"""``sentinel bench``: what the product costs, side by side in one run."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.console import note, print_json, progress, table


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(bench)


def bench(
    out: Annotated[
        Path | None, typer.Option(help="Folder for core.json and core.md; made if missing.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Time the core: parsing, features and each model runtime, for 1 to 4,096 rows.

    Example: sentinel bench --out bench
    """
    import msgspec

    from loadtest.core_bench import core_markdown, core_table, measure_core
    from loadtest.machine import describe_machine

    with progress("starting") as step:
        cells = measure_core(step)
    result = {"machine": describe_machine(), "command": "sentinel bench", "core": cells}
    columns, rows = core_table(cells)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(result), indent=1)
        (out / "core.json").write_bytes(encoded + b"\n")
        (out / "core.md").write_text(core_markdown(cells) + "\n")
        note(f"written: {out / 'core.json'}, {out / 'core.md'}")
    if json:
        print_json(result)
    else:
        table("The core, one thread", rows, columns)
