"""Loads that change over a test, as numbers and as a service sees them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.load import Load
from loadtest.shapes import COURSES, SPIKE_BASE, Shape, mean_share, share, users_at
from tests.loadtest.small_service import after, served
from tests.loadtest.test_load_command import EASY, TRANSACTIONS, USUAL, run


@given(st.sampled_from(Shape), st.floats(0, 1), st.integers(1, 10_000))
def test_there_is_always_somebody_and_never_more_than_all(
    shape: Shape, passed: float, users: int
) -> None:
    assert 0 <= share(shape, passed) <= 1
    assert 1 <= users_at(shape, users, passed) <= users


@pytest.mark.parametrize("shape", Shape)
def test_every_shape_reaches_all_of_its_users(shape: Shape) -> None:
    assert max(users_at(shape, 100, at / 1_000) for at in range(1_001)) == 100


@pytest.mark.parametrize("shape", Shape)
def test_the_mean_is_that_of_the_course(shape: Shape) -> None:
    seen = [share(shape, (at + 0.5) / 10_000) for at in range(10_000)]
    assert mean_share(shape) == pytest.approx(sum(seen) / len(seen), rel=1e-3)
    assert COURSES[shape][0][0] == 0
    assert COURSES[shape][-1][0] == 1


def test_a_spike_comes_and_goes_at_once() -> None:
    course = [share(Shape.SPIKE, at) for at in (0, 0.199, 0.2, 0.4, 0.599, 0.6, 1)]
    assert course == [SPIKE_BASE, SPIKE_BASE, 1, 1, 1, SPIKE_BASE, SPIKE_BASE]


def test_a_ramp_grows_evenly() -> None:
    load = Load(20, 10.0, "single", 1, 0, shape=Shape.RAMP)
    assert [load.users_at(second) for second in (0, 2.5, 5, 10, 11)] == [1, 5, 10, 20, 20]
    assert load.mean_users == 10


def test_a_day_has_a_quiet_night() -> None:
    assert share(Shape.DAY, 3.5 / 24) < 0.2
    assert share(Shape.DAY, 12 / 24) == 1


def spike(file: Path, **more: Any) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    with served(TRANSACTIONS, after(0.02, USUAL)) as service:
        words = ("--shape", "spike", "--duration", 10, "--users", 20, "--timeline", file, "--json")
        done = run("--url", service.url, *words, *EASY)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return done.returncode, json.loads(done.stdout), lines


def test_a_service_sees_the_spike_and_nobody_is_cut_off_when_it_ends(tmp_path: Path) -> None:
    began = time.time()
    code, result, lines = spike(tmp_path / "timeline.jsonl")
    assert (code, result["shape"], result["failed"]) == (0, "spike", 0)
    assert result["problems"] == {}
    assert len(lines) in (9, 10)
    assert [line["users"] for line in lines[2:5]] == [20, 20, 20]
    assert {line["users"] for line in lines[7:]} == {2}
    before, during, afterwards = (
        sum(line["requests"] for line in part) / len(part)
        for part in (lines[:1], lines[3:5], lines[8:])
    )
    assert during > 2 * before
    assert during > 2 * afterwards
    assert all(line["p95_ms"] >= 20 and line["shed"] == 0 for line in lines)
    assert all(began < line["at"] < time.time() for line in lines)


def test_users_that_pause_send_no_more_than_they_say() -> None:
    with served(TRANSACTIONS, USUAL) as service:
        words = ("--pause", 0.5, "--duration", 2, "--users", 4, "--json")
        done = run("--url", service.url, *words, *EASY)
    assert 12 <= json.loads(done.stdout)["requests"] <= 20
    assert "users waited" not in done.stderr


def test_a_timeline_that_cannot_be_written_is_said_before_the_load(tmp_path: Path) -> None:
    done = run("--timeline", tmp_path / "no" / "file")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--timeline" in done.stderr
