"""The documents say what is so."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.autoscale_demo import Runs, table
from loadtest.autoscale_picture import spike_plot
from loadtest.bench_command import PARTS, markdown
from loadtest.cells import ServeBench, ratio_table, serve_table, together
from loadtest.contenders import NAMES
from loadtest.core_bench import Cell, core_table
from loadtest.figures import SHOWN, write_figures
from loadtest.profile_core import ProfileCell, profile_table
from loadtest.serving_plot import serving_plot
from loadtest.serving_report import serving_tables
from sentinel.dataset import DatasetDescription, FieldSpec, Policy, parse_description

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_key_of_a_description_is_documented() -> None:
    page = (ROOT / "docs" / "dataset-description.md").read_text()
    for model in (DatasetDescription, FieldSpec, Policy):
        for key in model.model_fields:
            assert re.search(rf"`{key}`|^\s*{key}:", page, re.MULTILINE), key


def test_the_documented_description_is_a_valid_one() -> None:
    page = (ROOT / "docs" / "dataset-description.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert parse_description(example[1], "docs").name == "shop"


def test_the_documented_policy_is_the_default() -> None:
    page = (ROOT / "docs" / "dataset-description.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert parse_description(example[1], "docs").policy == Policy()


def test_every_make_target_in_the_documents_exists() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"{page.name}: {target}"


def measurement(part: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "bench" / f"{part}.json").read_text())
    return content


def speed_tables(part: str) -> list[str]:
    """The tables of a part, made anew from its committed figures."""
    content = measurement(part)
    if part == "core":
        cells = core_table([Cell(**cell) for cell in content["core"]])
        profiles = profile_table([ProfileCell(**cell) for cell in content["profiles"]])
        return [markdown(*cells), markdown(*profiles)]
    bench = msgspec.convert(content, ServeBench)
    if part == "serving":
        return [markdown(*drawn) for _, drawn in serving_tables(bench)]
    return [markdown(*serve_table(bench)), markdown(*ratio_table(bench))]


COMMITTED = [part for part in PARTS if (ROOT / "bench" / f"{part}.json").exists()]


def test_a_part_without_a_committed_measurement_is_shown_nowhere() -> None:
    files = {shown.file for shown in SHOWN}
    assert not files & {f"{part}.md" for part in PARTS if part not in COMMITTED}


@pytest.mark.parametrize("part", COMMITTED)
def test_the_tables_beside_a_measurement_are_made_from_it(part: str) -> None:
    tables = speed_tables(part)
    assert (ROOT / "bench" / f"{part}.md").read_text() == "\n\n".join(tables) + "\n"


def test_the_pages_show_the_committed_measurements(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    for page in {shown.page for shown in SHOWN}:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    assert write_figures(tmp_path) == []


def test_the_plot_is_drawn_from_the_committed_measurement() -> None:
    bench = msgspec.convert(measurement("serving"), ServeBench)
    assert (ROOT / "bench" / "serving.svg").read_bytes() == serving_plot(bench)


def test_the_table_and_the_picture_of_a_spike_are_made_from_its_committed_run() -> None:
    runs = msgspec.json.decode((ROOT / "bench" / "autoscale.json").read_bytes(), type=Runs)
    assert (ROOT / "bench" / "autoscale.md").read_text() == markdown(*table(runs)) + "\n"
    assert (ROOT / "bench" / "autoscale.svg").read_bytes() == spike_plot(runs.by_policy)
    assert all(run.result["failed"] == 0 for run in runs.by_policy.values())


def test_the_counts_of_the_kill_tests_are_the_committed_ones() -> None:
    counts = (ROOT / "bench" / "faults.md").read_text().strip()
    assert counts in (ROOT / "docs" / "serving.md").read_text()


def test_the_bench_names_every_contender_and_says_why_one_is_missing() -> None:
    parts = [msgspec.convert(measurement(part), ServeBench) for part in ("serving", "profiles")]
    bench = together(parts)
    assert tuple(bench.contenders) == NAMES
    for name, row in bench.contenders.items():
        assert (row is None) == (name in bench.reasons)
    single = [row for row in bench.contenders.values() if row is not None]
    assert {(row.shape, row.connections) for row in single} == {("single", 64)}
    assert all(row.errors == 0 for row in [*single, *bench.rows])
    assert not any(bench.degraded.values())


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_pin_hashes_and_name_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    packages = re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)
    assert len(packages) > 50
    # Each package's lines go on with at least one hash.
    assert text.count("==") <= text.count("--hash=sha256:")


def test_the_lock_covers_what_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    for dependency in project["dependencies"]:
        name = re.split(r"[\[<>=~]", dependency)[0]
        assert name in locked, name
