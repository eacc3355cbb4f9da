"""Results with ``--json`` as Markdown tables: ``python -m training.figures FILE``.

Of ``sentinel evaluate``, and of ``sentinel benchmark handbook`` and ``creditcard``.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from training import creditcard, handbook


def figures_markdown(result: Mapping[str, Any]) -> str:
    """The tables of a result, a blank line between them."""
    if "validation" in result:
        tables = [markdown(columns, rows(result)) for _, columns, rows in handbook.TABLES]
        return "\n\n".join(tables)
    if "row_order" in result:
        return markdown(creditcard.COLUMNS, creditcard.table_rows(result))
    return markdown(
        ("figure", "value", "95% interval"),
        (
            (name, f"{figure['value']:.4f}", f"{figure['low']:.4f} to {figure['high']:.4f}")
            for name, figure in result.items()
            if isinstance(figure, Mapping)
        ),
    )


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns but the first are figures."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(figures_markdown(msgspec.json.decode(Path(sys.argv[1]).read_bytes())) + "\n")
