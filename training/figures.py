"""``sentinel evaluate --json`` as a Markdown table: ``python -m training.figures FILE``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


def figures_markdown(result: Mapping[str, Any]) -> str:
    """One row a figure, with its 95% bootstrap interval."""
    lines = ["| figure | value | 95% interval |", "| --- | ---: | ---: |"]
    for name, figure in result.items():
        if isinstance(figure, Mapping):
            interval = f"{figure['low']:.4f} to {figure['high']:.4f}"
            lines.append(f"| {name} | {figure['value']:.4f} | {interval} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(figures_markdown(msgspec.json.decode(Path(sys.argv[1]).read_bytes())) + "\n")
