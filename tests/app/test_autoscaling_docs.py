"""The page about autoscaling says what is so."""

import re
from pathlib import Path

from ray.util.metrics import Gauge

from deployments.scaling_metrics import ScalingMetrics
from sentinel import load_report
from sentinel.scaling_settings import ScalingSettings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "autoscaling.md").read_text()


def test_the_settings_are_the_documented_ones() -> None:
    documented = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| (.*) \|$", PAGE, re.MULTILINE)
    fields = ScalingSettings.model_fields.items()
    expected = [(name, f"{field.default:g}", field.description) for name, field in fields]
    assert documented[: len(expected)] == expected


def test_every_counter_of_a_report_is_documented() -> None:
    for name in (*load_report.QUEUE, *load_report.OWN_WORK):
        assert f"`{name}`" in PAGE, name


def test_the_metrics_of_the_policy_are_the_documented_ones() -> None:
    gauges = [one for one in vars(ScalingMetrics()).values() if isinstance(one, Gauge)]
    documented = set(
        re.findall(r"^\| `(sentinel_scaling_\w+)`", (DOCS / "metrics.md").read_text(), re.M)
    )
    assert {gauge.info["name"] for gauge in gauges} == documented


def test_the_line_that_is_explained_is_the_one_that_is_written() -> None:
    (line,) = re.findall(r"^scale: XGBoost 1 -> 2:.*$", PAGE, re.MULTILINE)
    said = (Path(__file__).parents[1] / "unit" / "test_scaling.py").read_text()
    for part in (
        "20 rows wait, 10 fly",
        "1,200 rows/s must pass for 50 ms",
        "so 1.95 are needed at 70%",
    ):
        assert part in line
        assert part in said
