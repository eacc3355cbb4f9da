"""What the service counts is what was sent, and Ray's own exporter has it too."""

import time
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.load import row_of
from tests.serve.serving import Served

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"

Totals = dict[str, float]


def totals(served: Served, label: str, name: str) -> Totals:
    """The samples of a counter, by one of its labels."""
    found: Totals = {}
    for family in text_string_to_metric_families(served.client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == f"ray_sentinel_{name}":
                value = sample.labels[label]
                found[value] = found.get(value, 0) + sample.value
    return found


def settled(served: Served, label: str, name: str, wanted: Totals, before: Totals) -> Totals:
    """How much a counter has grown, once it is as wanted or some seconds have passed."""
    deadline = time.monotonic() + 20
    while True:
        now = totals(served, label, name)
        grown = {key: value - before.get(key, 0) for key, value in now.items()}
        grown = {key: value for key, value in grown.items() if value}
        if grown == wanted or time.monotonic() > deadline:
            return grown
        time.sleep(0.5)


def test_requests_rows_and_decisions_are_counted_once(served: Served) -> None:
    time.sleep(3)  # what earlier tests did has arrived
    before = {
        name: totals(served, label, name)
        for label, name in (("status", "requests_total"), ("outcome", "rows_total"))
    }
    for number in range(3):
        served.predict(row_of(number, "count"))
    served.client.post("/predict", json={})
    served.client.post("/predict", content=b"{", headers={"content-type": "application/json"})
    batch = [row_of(0, "count"), {**row_of(1, "count"), "amount": -1}]
    served.predict_batch(batch)
    wanted = {"200": 4.0, "422": 1.0, "400": 1.0}
    assert settled(served, "status", "requests_total", wanted, before["requests_total"]) == wanted
    rows = settled(
        served, "outcome", "rows_total", {"scored": 4.0, "refused": 2.0}, before["rows_total"]
    )
    assert rows == {"scored": 4.0, "refused": 2.0}, "malformed bytes are no transaction"


def test_every_metric_is_documented_and_every_documented_one_declared(served: Served) -> None:
    served.predict(row_of(1))
    time.sleep(3)
    page = served.client.get("/metrics").text
    shown = {
        family.name.removeprefix("ray_")
        for family in text_string_to_metric_families(page)
        if family.name.startswith("ray_sentinel_")
    }
    documented = {
        line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `sent")
    }
    declared: set[str] = set()
    root = Path(__file__).parents[2]
    files = [
        "serve_app/metrics.py",
        "deployments/metrics.py",
        "deployments/scaling_metrics.py",
        "kafka_ingest/metrics.py",
    ]
    for file in files:
        for part in (root / file).read_text().split('"sentinel_')[1:]:
            declared.add("sentinel_" + part.split('"')[0])
    assert documented == declared
    assert shown <= documented
    assert {"sentinel_requests", "sentinel_stage_ms", "sentinel_bundle_serving"} <= shown


def test_rays_own_exporter_has_them_too(served: Served) -> None:
    """Its port is Ray's choice, so every one that the agent listens on is asked."""
    served.predict(row_of(1))
    time.sleep(3)
    agents = [p for p in map(psutil.Process, served.family()) if "DashboardAgent" in p.cmdline()[0]]
    ports = {
        c.laddr.port
        for agent in agents
        for c in agent.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert any("ray_sentinel_requests_total{" in scraped(port) for port in ports), ports


def scraped(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
    except httpx.HTTPError:
        return ""


def test_serves_own_metrics_of_the_application_are_on_the_page(served: Served) -> None:
    served.predict(row_of(1))
    page = served.client.get("/metrics").text
    assert "ray_serve_num_http_requests" in page
    assert "ray_serve_deployment_request_counter" in page
    assert 'application="sentinel"' in page
    assert "ray_node_cpu" not in page
