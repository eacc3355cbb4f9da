"""A contender's environment is made once for its lock and its Python, and anew for another."""

import re
import sys
from importlib import resources
from pathlib import Path

import pytest

from loadtest.contenders import RECIPES
from loadtest.environments import (
    NotMeasurable,
    environment_for,
    is_current,
    link_packages,
    lock_of,
    mark_of,
)

LOCKED = ("litserve", "mlserver", "reference")


def test_an_environment_is_current_for_the_same_lock_and_the_same_python_alone(
    tmp_path: Path,
) -> None:
    wanted = mark_of(b"numpy==2", "3.11.7")
    assert not is_current(tmp_path, wanted)
    (tmp_path / ".installed").write_text(wanted)
    assert is_current(tmp_path, wanted)
    assert not is_current(tmp_path, mark_of(b"numpy==3", "3.11.7"))
    assert not is_current(tmp_path, mark_of(b"numpy==2", "3.12.0"))


def test_a_current_environment_is_used_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "litserve"
    home.mkdir()
    (home / ".installed").write_text(mark_of(lock_of("litserve"), sys.version))
    assert environment_for("litserve", tmp_path) == home / "bin" / "python"
    assert sorted(path.name for path in home.iterdir()) == [".installed"]


def test_without_uv_the_reason_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasurable, match="make setup"):
        environment_for("reference", tmp_path)


def test_a_failed_installation_is_told_without_its_words_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false = tmp_path / "bin" / "uv"
    false.parent.mkdir()
    false.write_text("#!/bin/sh\necho could not reach https://index.example\nexit 2\n")
    false.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(false.with_name("python")))
    with pytest.raises(NotMeasurable) as refused:
        environment_for("reference", tmp_path)
    assert "://" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert "index.example" in (tmp_path / "reference.log").read_text()
    assert not (tmp_path / "reference" / ".installed").exists()


def test_packages_are_linked_and_linked_again(tmp_path: Path) -> None:
    package = tmp_path / "here" / "sentinel"
    package.mkdir(parents=True)
    (package / "answers.py").touch()
    site = tmp_path / "site"
    site.mkdir()
    for _ in range(2):
        link_packages(site, [package])
    assert (site / "sentinel" / "answers.py").exists()


@pytest.mark.parametrize("name", LOCKED)
def test_the_contenders_locks_pin_hashes_and_name_no_host(name: str) -> None:
    text = lock_of(name).decode()
    assert "://" not in text
    assert "--index" not in text
    assert text.count("==") <= text.count("--hash=sha256:")
    assert f"\n{name}==" in f"\n{text}" or name == "reference"


@pytest.mark.parametrize("name", LOCKED)
def test_every_contender_runs_the_models_on_the_same_releases(name: str) -> None:
    runtime = (resources.files("loadtest.rivals") / "runtime.in").read_text().split()
    project = (Path(__file__).parents[2] / "requirements.lock").read_text()
    for package in [*runtime, *(["scikit-learn"] if name == "reference" else [])]:
        pinned = rf"^{package}==\S+( ; [^\\\n]*)?"
        own = {match[0].strip() for match in re.finditer(pinned, lock_of(name).decode(), re.M)}
        assert own
        assert own == {match[0].strip() for match in re.finditer(pinned, project, re.M)}


def test_contenders_that_need_no_environment_are_ready_at_once(tmp_path: Path) -> None:
    made = {name: RECIPES[name]("a/bundle", tmp_path) for name in ("limit", "sentinel")}
    assert [each.name for each in made.values()] == list(made)
    assert all(each.batches for each in made.values())
    kept = made["sentinel"].on_cores("0")
    assert kept.command[:3] == ["taskset", "--cpu-list", "0"]
    assert kept.command[3:] == made["sentinel"].command
