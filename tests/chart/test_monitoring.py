"""The running service under load, scraped by a real Prometheus: every panel of the dashboard has
data, and every rule asks for what there is."""

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from ray_cluster import dashboard
from tests.chart.prometheus import Prometheus, prometheus
from tests.chart.rendering import CHART
from tests.serve.load import kind, under_load
from tests.serve.serving import Served, sentinel_serve

ROOT = Path(__file__).parents[2]
RULES = CHART / "files" / "rules.yaml"
METRIC = re.compile(r"\bray_[a-z]\w+\b")
WAIT_SECONDS = 90.0
ELSEWHERE = {"kuberay_": {"SentinelUpgradeStuck"}, "ray_sentinel_ingest_": {"SentinelKafkaBehind"}}
"""Metrics of what does not run here (KubeRay's operator, Kafka workers): queries about them are
evaluated and find nothing; the rules that are, listed."""


def tight_config(folder: Path, bundle: str) -> Path:
    """The shipped config, with so little room in a router that it refuses under load."""
    config = yaml.safe_load((ROOT / "serve_app" / "config.yaml").read_text())
    (application,) = config["applications"]
    application["args"] = {"router": {"waiting_requests": 4, "flight_requests": 4, "flights": 1}}
    for deployment in application["deployments"]:
        deployment["user_config"] = {"bundle": bundle}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def metrics_port(served: Served) -> int:
    """The port of Ray's exporter on this machine, which Ray chooses."""
    for process in map(psutil.Process, served.family()):
        if "DashboardAgent" not in " ".join(process.cmdline()):
            continue
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and _is_exporter(connection.laddr.port):
                return int(connection.laddr.port)
    raise AssertionError("no exporter of Ray's was found")


def _is_exporter(port: int) -> bool:
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
    except httpx.HTTPError:
        return False
    return "ray_sentinel_" in page


@pytest.fixture(scope="module")
def watched(
    plain_bundle: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Prometheus, list[str], list[str]]]:
    """Prometheus; the dashboard's queries without an answer; the rules' metrics without one. All
    that can go wrong does while they are asked: refusals, a model that is killed, a bundle that
    cannot be had."""
    folder = tmp_path_factory.mktemp("watched")
    config = tight_config(folder, plain_bundle)
    with sentinel_serve(plain_bundle, folder, str(config)) as served:
        served.predict_batch([{"amount": -1}])
        with (
            under_load(served, clients=24) as load,
            prometheus(folder, metrics_port(served), RULES) as asked,
        ):
            config.write_text(config.read_text().replace(plain_bundle, "/no/such/bundle"))
            os.kill(served.process.pid, signal.SIGHUP)
            for pid in served.replicas("IsolationForest"):
                os.kill(pid, signal.SIGKILL)
            load.wait_for(lambda told: kind(told) == "degraded", seconds=WAIT_SECONDS)
            panels = asked.unanswered([filled(q) for q in here(dashboard.queries())], WAIT_SECONDS)
            names = here({m for rule in rules() for m in METRIC.findall(rule["expr"])})
            rest = asked.unanswered([f"count({name})" for name in names], WAIT_SECONDS)
            time.sleep(5)  # every rule has been evaluated
            yield asked, panels, rest


def here(queries: Iterable[str]) -> list[str]:
    """Those about what runs here."""
    return [query for query in queries if not any(name in query for name in ELSEWHERE)]


def filled(query: str) -> str:
    """A query of the dashboard as Grafana would send it."""
    return query.replace("$__rate_interval", "30s").replace("$cluster", ".*")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.timeout(480)
def test_no_panel_is_without_data(watched: tuple[Prometheus, list[str], list[str]]) -> None:
    _, panels, _ = watched
    assert panels == []


def test_no_rule_asks_for_what_there_is_not(
    watched: tuple[Prometheus, list[str], list[str]],
) -> None:
    _, _, rest = watched
    assert rest == []


def test_prometheus_evaluates_every_rule_without_an_error(
    watched: tuple[Prometheus, list[str], list[str]],
) -> None:
    asked, _, _ = watched
    evaluated = asked.rules()
    assert {rule["name"] for rule in evaluated} == {rule["alert"] for rule in rules()}
    assert {rule["health"] for rule in evaluated} == {"ok"}
    for prefix, alerts in ELSEWHERE.items():
        assert {rule["alert"] for rule in rules() if prefix in rule["expr"]} == alerts


def test_prometheus_takes_the_queries_about_what_does_not_run_here(
    watched: tuple[Prometheus, list[str], list[str]],
) -> None:
    asked, _, _ = watched
    rest = set(dashboard.queries()) - set(here(dashboard.queries()))
    assert rest
    for query in rest:
        assert asked.ask(filled(query)) == []
