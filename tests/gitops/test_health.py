"""Argo CD's own verdict on an object, by the scripts that are shipped, row by row."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.gitops.conftest import CONFIGURATION
from tests.gitops.rows import Row, rows


def verdict(programs: Path, file: Path) -> tuple[str, str]:
    """Status and message; a kind without a script would also end with code 0, and have neither."""
    command = [str(programs / "argocd"), "admin", "settings", "resource-overrides", "health"]
    command += [str(file), "--argocd-cm-path", str(CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    status, _, message = done.stdout.partition("MESSAGE: ")
    return status.removeprefix("STATUS: ").strip(), message


@pytest.mark.parametrize("row", rows(), ids=str)
def test_argo_cd_calls_it_what_the_table_says(programs: Path, row: Row, tmp_path: Path) -> None:
    file = tmp_path / "object.yaml"
    file.write_text(yaml.safe_dump(row.object()))
    status, message = verdict(programs, file)
    assert (status, row.says in message) == (row.expected, True), (status, message)
