"""``sentinel load`` as a person or a script runs it, against a small real service."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.service import Address
from sentinel.dataset import load_description
from sentinel.errors import UsageError
from tests.loadtest.small_service import (
    Answer,
    after,
    by_bundle,
    canned,
    every,
    served,
    shed,
)

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TRANSACTIONS = load_description("transactions")
USUAL = canned(TRANSACTIONS)
EASY = ("--p95", 60_000)
"""An objective that a busy machine meets too."""


def command(*arguments: object) -> list[str]:
    return [str(BIN / "sentinel"), "load", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    # Compiled modules are kept from one run to the next: Locust's alone cost a second each time.
    unwanted = ("SENTINEL_API_KEY", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1", **more}


def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**more),
    )


def load(answer: Answer, *arguments: object, users: int = 4) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and what was said, of half a second of load."""
    with served(TRANSACTIONS, answer) as service:
        short = ("--duration", 0.5, "--users", users, "--rows", 20, "--json")
        done = run("--url", service.url, *short, *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_help_shows_an_example() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "Example: sentinel load" in shown.stdout


def test_a_real_bundle_answers_all_kinds_and_the_objective_is_met(
    plain_bundle: str, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    with served(*by_bundle(plain_bundle)) as service:
        done = run(
            "--url", service.url, "--kind", "mixed", "--rows", 50, "--users", 6,
            "--duration", 2, "--json", "--html", page, *EASY,
        )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["objective_met"], result["failed"]) == (0, True, 0), done.stderr
    assert {
        "requests", "failed", "p50_ms", "p95_ms", "p99_ms", "requests_per_s", "objective_met",
        "shed", "degraded", "transactions_per_s", "seconds", "users", "kind", "rows", "objective",
    } <= set(result)  # fmt: skip
    assert result["requests"] == sum(service.requests.values())
    assert len(service.ids) == len(set(service.ids)) == result["transactions"]
    assert result["requests_per_s"] == pytest.approx(result["requests"] / result["seconds"], 0.01)
    assert 0 < result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"] <= result["max_ms"]
    by_kind = result["by_kind"]
    assert set(by_kind) == {"single", "json", "arrow"}
    assert result["requests"] == sum(part["requests"] for part in by_kind.values())
    assert "/predict/batch (arrow)" in page.read_text()


def test_a_person_gets_a_table_and_the_verdict_in_words() -> None:
    creditcard = load_description("creditcard")
    with served(creditcard, canned(creditcard)) as service:
        url = service.url
        done = run("--url", url, "--kind", "arrow", "--duration", 0.5, "--users", 2, *EASY)
    assert done.returncode == 0, done.stderr
    for words in ("transactions/s", "p95, ms", "objective met: p95"):
        assert words in done.stdout
    assert f"{url}: model version 5e5e5e5e5e5e, dataset creditcard; 2 users" in done.stderr
    assert len(service.ids) == 1_000 * service.requests.total()


def test_a_slow_service_does_not_meet_the_objective() -> None:
    code, result, _ = load(after(0.15, USUAL), "--p95", 100)
    assert (code, result["objective_met"], result["failed"]) == (1, False, 0)
    assert result["p50_ms"] >= 150
    assert result["unmet"][0].startswith("p95 is ")


@pytest.mark.parametrize(("allowed", "code"), [(0, 1), (1_000_000, 0)])
def test_shed_requests_are_failed_ones_of_which_some_may_be_allowed(
    allowed: int, code: int
) -> None:
    found, result, said = load(every(3, shed, USUAL), *EASY, "--max-failed", allowed)
    assert (found, result["objective_met"]) == (code, code == 0)
    assert result["failed"] == result["shed"] == result["requests"] // 3
    assert result["problems"] == {"status 503": result["shed"]}
    assert "x status 503: no room for more work: rows" in said


@pytest.mark.parametrize(("kind", "wrong"), [("single", {}), ("json", {"decision": 5})])
def test_an_answer_to_another_transaction_or_none_at_all_has_failed(
    kind: str, wrong: dict[str, Any]
) -> None:
    other = canned(TRANSACTIONS, **(wrong or {"transaction_id": "someone-else"}))
    code, result, _ = load(every(2, other, USUAL), *EASY, "--kind", kind)
    assert code == 1
    assert (result["failed"], result["shed"]) == (result["requests"] // 2, 0)
    problem = "the body is no answer" if wrong else "the answer is to another transaction"
    assert result["problems"] == {problem: result["failed"]}


def test_degraded_answers_are_counted_but_not_as_failed() -> None:
    degraded = canned(TRANSACTIONS, degraded=True)
    code, result, _ = load(every(2, degraded, USUAL), *EASY)
    assert (code, result["failed"]) == (0, 0)
    assert result["degraded"] == result["requests"] // 2


def test_a_service_that_never_answers_has_failed_every_request() -> None:
    code, result, _ = load(after(60, USUAL), *EASY, "--timeout", 0.3)
    assert (code, result["objective_met"], result["p95_ms"]) == (1, False, None)
    assert result["requests"] == result["failed"] >= 4
    assert result["problems"] == {"no answer within 0.3 s": result["failed"]}


def test_what_happens_during_the_warm_up_is_not_counted() -> None:
    refused = every(1, shed, USUAL)
    turned = time.monotonic() + 60

    async def at_first_refusing(request: Any, body: bytes) -> Any:
        nonlocal turned
        turned = min(turned, time.monotonic() + 0.5)
        return await (refused if time.monotonic() < turned else USUAL)(request, body)

    code, result, _ = load(at_first_refusing, *EASY, "--warm-up", 1)
    assert (code, result["failed"], result["warm_up"]) == (0, 0, 1)
    assert 0.4 < result["seconds"] < 30


@contextmanager
def started(words: Sequence[str], **more: str) -> Iterator[subprocess.Popen[str]]:
    """The process, which is gone when the block ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=environment(**more)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_requests(ids: list[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(ids) < count:
        assert time.monotonic() < deadline, "no load came"
        time.sleep(0.02)


def test_a_service_that_goes_away_is_a_verdict_and_not_a_crash() -> None:
    with ExitStack() as stack:
        service = stack.enter_context(served(TRANSACTIONS, USUAL))
        words = command("--url", service.url, "--duration", 3, "--users", 3, "--json", *EASY)
        with started(words) as process:
            wait_for_requests(service.ids, 10)
            stack.close()
            out, said = process.communicate(timeout=60)
    result = json.loads(out)
    assert process.returncode == 1
    assert result["problems"]["connection refused"] <= result["failed"] < result["requests"]
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_load_early_and_the_verdict_still_comes(number: signal.Signals) -> None:
    with served(TRANSACTIONS, USUAL) as service:
        words = command("--url", service.url, "--duration", 600, "--users", 3, "--json", *EASY)
        with started(words) as process:
            wait_for_requests(service.ids, 10)
            process.send_signal(number)
            out, said = process.communicate(timeout=60)
    result = json.loads(out)
    assert (process.returncode, result["ended_early"], result["failed"]) == (0, True, 0)
    assert result["requests"] == len(service.ids)
    assert "ended early" in said


def test_nobody_there_is_one_line_that_says_what_was_tried() -> None:
    done = run("--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == (
        "sentinel: GET http://127.0.0.1:9/model: Connection refused; "
        "is the service running there (sentinel serve)?"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--kind", "double"), "--kind"),
        (("--p95", "nan"), "--p95"),
        (("--url", "ftp://127.0.0.1"), "--url"),
        (("--html", "/no/such/folder/report.html"), "--html"),
    ],
)
def test_wrong_use_names_the_option(arguments: tuple[str, str], named: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("127.0.0.1:8000", None),
        ("http://", None),
        ("http://host:port", None),
        ("http://host/?x=1", None),
        ("http://ho st/", None),
        ("http://me:secret@host", None),
        ("http://host", "secret\n"),
        ("http://host", ""),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_a_secret(
    url: str, key: str | None
) -> None:
    with pytest.raises(UsageError, match=r"--url|--api-key") as error:
        Address.of(url, key)
    assert "secret" not in str(error.value)


def test_the_key_is_sent_with_every_request_and_never_shown(tmp_path: Path) -> None:
    secret = "k3y-" + "x" * 40

    async def repeating(request: Any, body: bytes) -> Any:
        answer = await shed(request, body)
        answer.body = answer.body.replace(b"more work", request.headers["authorization"].encode())
        answer.headers["content-length"] = str(len(answer.body))
        return answer

    page = tmp_path / "report.html"
    with served(TRANSACTIONS, every(5, repeating, USUAL)) as service:
        done = run(
            "--url", service.url, "--duration", 0.5, "--users", 2, "--json", "--html", page,
            SENTINEL_API_KEY=secret,
        )  # fmt: skip
    assert service.keys == {f"Bearer {secret}"}
    assert json.loads(done.stdout)["shed"] > 0
    assert secret not in done.stdout + done.stderr + page.read_text()
    assert secret not in repr(Address.of("http://127.0.0.1", secret))


def test_commands_are_imported_without_what_only_a_load_needs() -> None:
    script = (
        "import sys, loadtest.commands\n"
        "heavy = {'locust', 'gevent', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


LOCUST = [str(BIN / "locust"), "-f", "loadtest/locustfile.py", "--headless", "--users", "4"]


def test_locusts_own_command_line_runs_the_same_users() -> None:
    with served(TRANSACTIONS, USUAL) as service:
        words = [*LOCUST, "--spawn-rate", "4", "--rows", "5", "--host", service.url]
        with started(words, SENTINEL_API_KEY="one-key") as process:
            wait_for_requests(service.ids, 20)
            process.terminate()
            shown, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert service.keys == {"Bearer one-key"}
    assert len(service.ids) == len(set(service.ids))
    assert "/predict (single)" in shown + said


def test_locusts_own_command_line_says_when_nobody_is_there() -> None:
    with started([*LOCUST, "--host", "http://127.0.0.1:9"]) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "GET http://127.0.0.1:9/model: Connection refused" in said
