"""What the pages say of the stream is so."""

import re
from pathlib import Path

from ray.util.metrics import Metric

from kafka_ingest.app import IngestArgs
from kafka_ingest.metrics import PoolMetrics, WorkerMetrics

DOCS = Path(__file__).parents[2] / "docs"


def test_the_metrics_of_the_stream_are_the_documented_ones() -> None:
    declared = {
        metric.info["name"]
        for owner in (WorkerMetrics("0"), PoolMetrics())
        for metric in vars(owner).values()
        if isinstance(metric, Metric)
    }
    documented = set(
        re.findall(r"^\| `(sentinel_ingest_\w+)`", (DOCS / "metrics.md").read_text(), re.M)
    )
    assert declared == documented


def test_the_arguments_of_the_application_are_the_documented_ones() -> None:
    page = (DOCS / "kafka.md").read_text()
    for name, field in IngestArgs.model_fields.items():
        if field.description is not None:
            default = "null" if field.default is None else str(field.default)
            assert f"| `{name}` | {default} | {field.description} |" in page, name
