"""Each rule fires for what it is about and for nothing else: series made up, judged by promtool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, Object, one

RULES = CHART / "files" / "rules.yaml"
MINUTES = 60

LATENCY = (
    'ray_serve_http_request_latency_ms_bucket{application="sentinel",method="POST",namespace="n"'
)

HEALTHY = {
    'ray_serve_application_status{application="sentinel",namespace="n"}': "6+0x60",
    'ray_sentinel_requests_total{namespace="n",status="200"}': "0+6000x60",
    'ray_sentinel_shed_total{namespace="n",bound="age"}': "0+6x60",
    'ray_sentinel_rows_total{namespace="n",outcome="scored"}': "0+6000x60",
    'ray_sentinel_degraded_rows_total{namespace="n",lane="xgboost"}': "0+6x60",
    'ray_sentinel_queue_age_ms{namespace="n"}': "20+0x60",
    LATENCY + ',le="50"}': ("0+5990x60"),
    LATENCY + ',le="500"}': ("0+6000x60"),
    LATENCY + ',le="+Inf"}': ("0+6000x60"),
    'ray_sentinel_ingest_lag{namespace="n"}': "900+0x60",
    'ray_sentinel_ingest_records_total{namespace="n",slot="0"}': "0+6000x60",
    'ray_sentinel_bundle_refused{namespace="n",bundle="b",reason="r"}': "0+0x60",
    'kuberay_service_condition_upgrade_in_progress{namespace="n",name="s",condition="false"}': (
        "1+0x60"
    ),
    'kuberay_service_condition_upgrade_in_progress{namespace="n",name="s",condition="true"}': (
        "_x60"
    ),
}
"""An hour in which a request in a thousand is shed, and nothing else is amiss."""


def series(name: str) -> str:
    """The series of ``HEALTHY`` that this is the metric of; the first, if there are several."""
    return next(key for key in HEALTHY if key.startswith(name))


TROUBLE: dict[str, tuple[dict[str, str], str]] = {
    "SentinelDown": ({series("ray_serve_application_status"): "1+0x60"}, "Serve says 1"),
    "SentinelSheds": ({series("ray_sentinel_shed_total"): "0+300x60"}, "5% of requests"),
    "SentinelSlow": (
        {series("ray_serve_http_request_latency_ms"): "0+5000x60"},
        "the last five minutes is 365 ms",
    ),
    "SentinelQueueOld": ({series("ray_sentinel_queue_age_ms"): "200+0x60"}, "waited 200 ms"),
    "SentinelDegraded": (
        {series("ray_sentinel_degraded_rows_total"): "0+600x60"},
        "10% of transactions",
    ),
    "SentinelKafkaBehind": (
        {series("ray_sentinel_ingest_lag"): "60000+0x60"},
        "what waits in Kafka takes 10m 0s",
    ),
    "SentinelBundleRefused": ({series("ray_sentinel_bundle_refused"): "1+0x60"}, "b: r."),
    "SentinelUpgradeStuck": (
        {'kuberay_service_condition_upgrade_in_progress{namespace="n",name="s",condition="true"}':
            "1+0x60"},
        "Two Ray clusters run",
    ),
}  # fmt: skip


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def fired(folder: Path, changed: dict[str, str], minute: int) -> set[str]:
    """The names of the alerts that fire at this minute, as promtool finds them: it is asked of each
    whether it is silent, and complains of those that are not."""
    made = {**HEALTHY, **changed}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": k, "values": v} for k, v in made.items() if v != "_x60"
                ],
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": rule["alert"], "exp_alerts": []}
                    for rule in rules()
                ],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    (folder / "said").write_text(output)
    return {rule["alert"] for rule in rules() if f"alertname: {rule['alert']}," in output}


def test_promtool_reads_them() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    assert fired(tmp_path, {}, MINUTES) == set()


@pytest.mark.parametrize("name", TROUBLE)
def test_a_rule_fires_for_its_trouble_alone(name: str, tmp_path: Path) -> None:
    changed, said = TROUBLE[name]
    assert fired(tmp_path, changed, MINUTES) == {name}
    assert said in (tmp_path / "said").read_text()


def test_a_service_that_says_nothing_is_down(tmp_path: Path) -> None:
    silent = {series("ray_serve_application_status"): "_x60"}
    assert fired(tmp_path, silent, MINUTES) == {"SentinelDown"}


def test_a_stream_that_nobody_reads_is_behind(tmp_path: Path) -> None:
    still = {series("ray_sentinel_ingest_records_total"): "5+0x60"}
    assert fired(tmp_path, still, MINUTES) == {"SentinelKafkaBehind"}


def test_every_rule_is_tried_and_says_what_to_do() -> None:
    assert {rule["alert"] for rule in rules()} == set(TROUBLE)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_chart_brings_them_as_they_are(trial: list[Object]) -> None:
    assert one(trial, "PrometheusRule")["spec"] == yaml.safe_load(RULES.read_text())
