"""The quality table of the README is the committed measurement."""

import json
from pathlib import Path

from training.figures import figures_markdown

ROOT = Path(__file__).parents[2]


def test_the_readmes_quality_table_is_the_committed_one() -> None:
    measured = figures_markdown(json.loads((ROOT / "bench" / "creditcard.json").read_text()))
    assert measured in (ROOT / "README.md").read_text()
    assert measured == (ROOT / "bench" / "creditcard.md").read_text().strip()
