"""Two routers and two replicas of each model: under load, killed, changed, stopped.

The tests stand in the order they run in: the last one stops the service.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sentinel.bundle import open_bundle, write_bundle
from serve_app.keys import add_key
from tests.serve.conftest import write_pair_config
from tests.serve.load import Load, Told, ask_all, kind, row_of, under_load
from tests.serve.serving import Served, assert_same_answer, environment, offline

Say = Callable[[str, Load], None]

REQUESTS = 10_000
CONNECTIONS = 2_000


def check(bundle: str, told: list[Told]) -> None:
    """Every whole answer is what offline scoring with this bundle says."""
    whole = [one for one in told if one.answer and not one.answer["degraded"]]
    expected = offline(bundle, [one.row for one in whole])
    for one, wanted in zip(whole, expected, strict=True):
        assert one.answer is not None
        # At a boundary, a difference in the last digit decides; there is none among these.
        assert_same_answer(one.answer, wanted, 1e-6, hurried=True)


HEAD = """\
| what happened under load | answered | of them degraded | had to be sent again |
| --- | ---: | ---: | --- |
"""


@pytest.fixture(scope="module")
def counts() -> Iterator[list[str]]:
    """Rows of the table of counts; written where SENTINEL_COUNTS names a file."""
    rows: list[str] = []
    yield rows
    if file := os.environ.get("SENTINEL_COUNTS"):
        Path(file).write_text(HEAD + "".join(rows))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], counts: list[str]) -> Say:
    """Prints the counts where they are seen, in CI's log too."""

    def say(what: str, load: Load) -> None:
        kinds = [kind(told) for told in load.told]
        again = Counter(reason for told in load.told for reason in told.tries)
        said = ", ".join(f"{count} ({reason})" for reason, count in again.items()) or "0"
        answered = len(kinds) - kinds.count("unanswered")
        counts.append(f"| {what} | {answered:,} | {kinds.count('degraded'):,} | {said} |\n")
        with capsys.disabled():
            print(f"\n  {counts[-1].strip()}")

    return say


def test_ten_thousand_requests_at_once_have_each_its_own_right_answer(
    pair: Served, say: Say
) -> None:
    load = Load()
    load.told = told = ask_all(pair, [row_of(n, "many") for n in range(REQUESTS)], CONNECTIONS)
    say(f"{REQUESTS:,} requests over {CONNECTIONS} connections", load)
    assert [one.answer and one.answer["transaction_id"] for one in told] == [
        one.row["transaction_id"] for one in told
    ]
    # On a slow machine a burst may keep a lane past its deadline: that is answered, and flagged.
    kinds = Counter(kind(one) for one in told)
    assert kinds.keys() <= {"ok", "degraded"}
    assert kinds["ok"] > 0.9 * REQUESTS
    assert all(reason == "503 overloaded" for one in told for reason in one.tries)
    check(pair.bundle, told)


def test_both_routers_answer_and_one_page_counts_them_all(pair: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with under_load(pair, clients=32, tag="page"):
        time.sleep(3)
    time.sleep(3)
    page = pair.client.get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(page)}
    answered = [
        sample
        for sample in families["ray_sentinel_requests"].samples
        if sample.name.endswith("_total") and sample.labels["status"] == "200"
    ]
    assert len({sample.labels["replica"] for sample in answered}) == 2
    assert sum(sample.value for sample in answered) >= REQUESTS


def only_refused(load: Load) -> bool:
    """Whether no request failed but for a 503: while batches wait for a lane that has just died,
    the queue may reach its age, and what is refused then is sent again."""
    return {reason for told in load.told for reason in told.tries} <= {"503 overloaded"}


def test_a_replica_of_two_that_is_killed_costs_no_answer(pair: Served, say: Say) -> None:
    victim = pair.replicas("XGBoost")[0]
    with under_load(pair, tag="xgb") as load:
        os.kill(victim, signal.SIGKILL)
        load.wait_for(lambda _: True, count=500)
    say("one of two XGBoost replicas killed", load)
    assert {kind(one) for one in load.told} == {"ok"}
    assert only_refused(load)
    check(pair.bundle, load.told)
    pair.wait_for_replicas("XGBoost", 2)


def test_a_router_that_is_killed_loses_only_what_it_held_and_that_may_be_sent_again(
    pair: Served, say: Say
) -> None:
    clients = 16
    victim = pair.replicas("FraudRouter")[0]
    with under_load(pair, clients=clients, tag="router") as load:
        os.kill(victim, signal.SIGKILL)
        load.wait_for(lambda _: True, count=500)
    say("one of two routers killed", load)
    assert {kind(one) for one in load.told} == {"ok"}
    lost = [one for one in load.told if one.tries]
    # What was under way there, and what HAProxy sent there before it knew.
    assert len(lost) <= 2 * clients
    check(pair.bundle, load.told)
    pair.wait_for_replicas("FraudRouter", 2)


def test_without_the_isolation_forest_xgboost_decides_until_it_is_back(
    pair: Served, say: Say
) -> None:
    with under_load(pair, tag="forest") as load:
        for victim in pair.replicas("IsolationForest"):
            os.kill(victim, signal.SIGKILL)
        load.wait_for(lambda one: kind(one) == "degraded", count=50)
        problem = pair.client.get("/ready")
        assert problem.status_code == 503
        assert list(problem.json()["missing"]) == ["isolation_forest"]
        pair.wait_for_replicas("IsolationForest", 2)
        load.wait_for(lambda one: kind(one) == "ok", count=200)
    say("both Isolation Forest replicas killed", load)
    assert {kind(one) for one in load.told} == {"ok", "degraded"}
    assert only_refused(load)
    degraded = [one for one in load.told if kind(one) == "degraded"]
    expected = offline(pair.bundle, [one.row for one in degraded])
    for one, wanted in zip(degraded, expected, strict=True):
        assert one.answer is not None
        assert one.answer["fraud_probability"] == pytest.approx(
            wanted["fraud_probability"], abs=1e-6
        )
        assert (one.answer["anomaly_score"], one.answer["novelty_p"]) == (None, None)
    check(pair.bundle, load.told)


def test_without_xgboost_the_policys_fallback_decides_until_it_is_back(
    pair: Served, say: Say
) -> None:
    fallback = open_bundle(pair.bundle).manifest.policy.fallback
    with under_load(pair, tag="fraud") as load:
        for victim in pair.replicas("XGBoost"):
            os.kill(victim, signal.SIGKILL)
        load.wait_for(lambda one: kind(one) == "degraded", count=50)
        pair.wait_for_replicas("XGBoost", 2)
        load.wait_for(lambda one: kind(one) == "ok", count=200)
    say("both XGBoost replicas killed", load)
    assert {kind(one) for one in load.told} == {"ok", "degraded"}
    assert only_refused(load)
    for answer in (one.answer for one in load.told if kind(one) == "degraded"):
        assert answer is not None
        assert answer["fraud_probability"] is None
        assert answer["decision"] == fallback
    check(pair.bundle, load.told)


def other_bundle(uri: str, folder: Path) -> str:
    """A bundle whose answers differ: another calibration."""
    opened = open_bundle(uri)
    other = opened.manifest.calibration.model_copy(update={"intercept": 1.5})
    made = str(folder / "other")
    write_bundle(made, opened.manifest.model_copy(update={"calibration": other}), opened.files)
    return made


def by_version(told: list[Told]) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    for one in told:
        assert one.answer is not None
        found.setdefault(one.answer["model_version"], []).append(one)
    return found


def answered_by(digest: str) -> Callable[[Told], bool]:
    return lambda told: told.answer is not None and told.answer["model_version"] == digest


def test_a_new_bundle_comes_in_under_load_and_every_answer_is_of_one_bundle(
    pair: Served, pair_folder: Path, tmp_path: Path, say: Say
) -> None:
    new = other_bundle(pair.bundle, tmp_path)
    uris = {open_bundle(uri).digest: uri for uri in (pair.bundle, new)}
    old_digest, new_digest = uris
    with under_load(pair, tag="change") as load:
        for uri, digest in ((new, new_digest), (pair.bundle, old_digest)):
            write_pair_config(pair_folder, uri)
            pair.process.send_signal(signal.SIGHUP)
            load.wait_for(answered_by(digest))
            load.wait_for(lambda _: True, count=400)
    say("bundle changed and changed back", load)
    assert not [reason for one in load.told for reason in one.tries], "no request failed"
    assert {kind(one) for one in load.told} == {"ok"}
    found = by_version(load.told)
    assert found.keys() == uris.keys()
    for digest, told in found.items():
        check(uris[digest], told)
    assert pair.client.get("/model").json()["model_version"] == old_digest


def deploy(served: Served, config: Path) -> None:
    """Gives Serve another config as KubeRay would: past the checks of ``sentinel serve``."""
    script = f"""
import ray, yaml
ray.init(address="auto", namespace="serve", log_to_driver=False)
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
schema = ServeDeploySchema.model_validate(yaml.safe_load(open({str(config)!r})))
_get_global_client().deploy_apps(schema)
"""
    settings = {**environment(), "RAY_AUTH_MODE": "token"}
    del settings["RAY_ADDRESS"]
    settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    subprocess.run([sys.executable, "-c", script], env=settings, check=True, timeout=120)


def served_config(served: Served, folder: Path, bundle: str, name: str) -> Path:
    """The config as it runs, with another bundle."""
    config = yaml.safe_load(write_pair_config(folder, bundle).read_text())
    config["http_options"]["port"] = served.client.base_url.port
    config["applications"][0]["args"] = {"api_keys": str(folder / "keys.yaml")}
    file = folder / name
    file.write_text(yaml.safe_dump(config))
    return file


def refused(served: Served) -> list[dict[str, Any]]:
    answer = served.client.get("/ready")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["refused"]
    return found


def wait_until_refused(served: Served, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(found := refused(served)) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_a_broken_bundle_leaves_the_old_one_serving_and_says_why(
    pair: Served, pair_folder: Path, tmp_path: Path, say: Say
) -> None:
    broken = other_bundle(pair.bundle, tmp_path)
    model = Path(broken) / "xgboost.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with under_load(pair, tag="broken") as load:
        deploy(pair, served_config(pair, pair_folder, broken, "broken.yaml"))
        found = wait_until_refused(pair, 4)
        load.wait_for(lambda _: True, count=200)
    say("a broken bundle deployed", load)
    assert not [reason for one in load.told for reason in one.tries]
    assert {kind(one) for one in load.told} == {"ok"}
    digest = open_bundle(pair.bundle).digest
    assert by_version(load.told).keys() == {digest}
    check(pair.bundle, load.told)
    assert {one["deployment"] for one in found} == {
        "FraudRouter", "Profiles", "XGBoost", "IsolationForest"
    }  # fmt: skip
    for one in found:
        assert one["bundle"] == broken
        assert "xgboost.ubj was changed" in one["reason"]
    assert pair.client.get("/model").json()["refused"] == found
    time.sleep(3)
    page = pair.client.get("/metrics").text
    assert any(
        line.startswith("ray_sentinel_bundle_refused{") and broken in line and line.endswith(" 1.0")
        for line in page.splitlines()
    )
    deploy(pair, served_config(pair, pair_folder, pair.bundle, "good.yaml"))
    wait_until_refused(pair, 0)


def test_a_broken_bundle_is_refused_by_the_command_before_serve_hears_of_it(
    pair: Served, pair_folder: Path, tmp_path: Path
) -> None:
    write_pair_config(pair_folder, str(tmp_path / "nothing"))
    pair.process.send_signal(signal.SIGHUP)
    (said,) = wait_until_refused(pair, 1)
    assert said["deployment"] == "sentinel serve"
    assert "there is no bundle" in said["reason"]
    assert "nothing changed" in pair.log.read_text()
    digest = open_bundle(pair.bundle).digest
    assert pair.predict(row_of(1))["model_version"] == digest
    write_pair_config(pair_folder, pair.bundle)
    pair.process.send_signal(signal.SIGHUP)
    wait_until_refused(pair, 0)


@pytest.mark.parametrize("change", ["keys", "args", "unknown key"])
def test_a_reload_that_would_be_a_restart_or_a_failure_changes_nothing(
    pair: Served, pair_folder: Path, change: str
) -> None:
    file = write_pair_config(pair_folder, pair.bundle)
    config = yaml.safe_load(file.read_text())
    application = config["applications"][0]
    if change == "keys":
        (pair_folder / "keys.yaml").rename(pair_folder / "away.yaml")
    elif change == "args":
        application["args"] = {"router": {"flights": 3}}
    else:
        application["deployments"][1]["max_ongoing_request"] = 3
    file.write_text(yaml.safe_dump(config))
    told = pair.log.read_text().count("nothing changed")
    pair.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while pair.log.read_text().count("nothing changed") == told:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if change == "keys":
        (pair_folder / "away.yaml").rename(pair_folder / "keys.yaml")
    write_pair_config(pair_folder, pair.bundle)
    assert pair.predict(row_of(1))["degraded"] is False


def test_keys_are_asked_for_and_a_new_one_opens_within_seconds(
    pair: Served, pair_folder: Path
) -> None:
    def status(key: str | None, method: str = "POST", path: str = "/predict") -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=pair.url, headers=headers, trust_env=False) as client:
            content = {"json": dict(row_of(1))} if method == "POST" else {}
            return client.request(method, path, **content).status_code

    assert (status(None), status("wrong")) == (401, 401)
    assert status(None, "GET", "/health") == status(None, "GET", "/ready") == 200
    key = add_key(pair_folder / "keys.yaml", "new", ("read",))
    deadline = time.monotonic() + 20
    while {status(key, "GET", "/model") for _ in range(8)} != {200}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert status(key) == 403


def test_stopped_it_answers_what_is_under_way_and_leaves_nothing(pair: Served) -> None:
    """By SIGINT, which was ignored when it was started."""
    rows = [dict(row_of(n, "last")) for n in range(60_000)]
    answers: dict[str, tuple[float, httpx.Response]] = {}

    def ask(name: str) -> None:
        headers = pair.client.headers
        with httpx.Client(base_url=pair.url, headers=headers, timeout=120, trust_env=False) as own:
            answer = own.post("/predict/batch", json=rows)
            answers[name] = (time.monotonic(), answer)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    time.sleep(1.5)  # sent, and being worked on
    told = time.monotonic()
    pair.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    late = pair.client.post("/predict", json=dict(row_of(1, "late")))
    assert (late.status_code, late.json()["type"].rsplit(":", 1)[1]) == (503, "stopping")
    assert late.headers["retry-after"]
    left = pair.stop(None)
    for thread in threads:
        thread.join(120)
    assert max(at for at, _ in answers.values()) > told, "some were under way"
    for _, answer in answers.values():
        assert answer.status_code == 200
        results = answer.json()["results"]
        assert [one["transaction_id"] for one in results] == [r["transaction_id"] for r in rows]
        assert not any(one["degraded"] for one in results)
    assert len(answers) == len(threads)
    assert pair.process.returncode == 0, pair.log.read_text()
    assert not left, "processes were left behind"
