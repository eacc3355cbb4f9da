"""The Grafana dashboard of the service, as code: ``python -m ray_cluster.dashboard`` prints it.

It names only metrics of docs/metrics.md and Ray's own; a test holds it to that, and asks a real
Prometheus for every panel. `make chart` writes it into the chart.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

OURS = 'application="sentinel",ray_io_cluster=~"$cluster"'
"""What selects the application's series: all of its Ray clusters, while an upgrade has two."""

STREAM = 'ray_io_cluster=~"$cluster"'
"""What selects the series of the Kafka workers, which belong to no application of Serve's."""

SOURCE = DataSourceRef(type_val="prometheus", uid="$source")


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: its queries by legend, in this unit of Grafana's."""

    title: str
    about: str
    queries: Mapping[str, str]
    unit: str = "short"


def _rate(metric: str, *by: str, of: str = OURS) -> str:
    grouped = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{grouped} (rate({metric}{{{of}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, *by: str, of: str = OURS) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', 'le', *by, of=of)})"


ROWS: Mapping[str, Sequence[Panel]] = {
    "Answers": (
        Panel(
            "Requests",
            "Requests answered a second, by status",
            {"{{status}}": _rate("ray_sentinel_requests_total", "status")},
            "reqps",
        ),
        Panel(
            "Transactions",
            "Transactions received a second: scored, or refused for a field",
            {"{{outcome}}": _rate("ray_sentinel_rows_total", "outcome")},
        ),
        Panel(
            "Latency",
            "Milliseconds from a request to its answer, in the routers; health checks left out",
            {
                f"p{share * 100:g}": _quantile(
                    share, "ray_serve_http_request_latency_ms", of=f'{OURS},method="POST"'
                )
                for share in (0.5, 0.95, 0.99)
            },
            "ms",
        ),
        Panel(
            "Decisions",
            "Decisions made a second",
            {"{{decision}}": _rate("ray_sentinel_decisions_total", "decision")},
        ),
        Panel(
            "Stages",
            "Milliseconds of a batch in each stage, p95",
            {"{{stage}}": _quantile(0.95, "ray_sentinel_stage_ms", "stage")},
            "ms",
        ),
        Panel(
            "Not whole",
            "Requests refused for want of room, and transactions decided without a part, a second",
            {
                "refused: {{bound}}": _rate("ray_sentinel_shed_total", "bound"),
                "without {{lane}}": _rate("ray_sentinel_degraded_rows_total", "lane"),
            },
        ),
    ),
    "Queue": (
        Panel(
            "Rows",
            "Transactions that wait in the routers, and those being scored",
            {
                "waiting": f"sum(ray_sentinel_queue_rows{{{OURS}}})",
                "flying": f"sum(ray_sentinel_flying_rows{{{OURS}}})",
            },
        ),
        Panel(
            "Age",
            "Milliseconds that the oldest request has waited; past 250 requests are refused",
            {"oldest": f"max(ray_sentinel_queue_age_ms{{{OURS}}})"},
            "ms",
        ),
        Panel(
            "Requests waiting in Serve",
            "Requests that wait for a replica of a model, by deployment",
            {
                "{{deployment}}": "sum by (deployment) "
                f"(ray_serve_deployment_queued_queries{{{OURS}}})"
            },
        ),
    ),
    "Replicas": (
        Panel(
            "Desired",
            "Replicas that the policy wants, in fractions: what the demand takes",
            {"{{deployment}}": f"max by (deployment) (ray_sentinel_scaling_need{{{OURS}}})"},
        ),
        Panel(
            "Target and healthy",
            "Replicas that there should be, and those that answer",
            {
                "{{deployment}} target": "max by (deployment) "
                f"(ray_serve_autoscaling_target_replicas{{{OURS}}})",
                "{{deployment}} healthy": "sum by (deployment) "
                f"(ray_serve_deployment_replica_healthy{{{OURS}}})",
            },
        ),
        Panel(
            "Demand",
            "Transactions a second that arrive, and that must pass to keep the objective",
            {
                "arrive": f"sum(ray_sentinel_scaling_arrivals{{{OURS}}})",
                "must pass": f"sum(ray_sentinel_scaling_demand{{{OURS}}})",
            },
        ),
    ),
    "Kafka": (
        Panel(
            "Lag",
            "Records from what is committed to the topic's end; nothing where no stream is read",
            {"records": f"sum(ray_sentinel_ingest_lag{{{STREAM}}})"},
        ),
        Panel(
            "Records",
            "Records a second: decided, and put to the dead letters",
            {
                "decisions": _rate("ray_sentinel_ingest_decisions_total", of=STREAM),
                "dead letters": _rate("ray_sentinel_ingest_dead_letters_total", of=STREAM),
            },
        ),
        Panel(
            "Record to decision",
            "Seconds from a record's timestamp to its committed decision, of the oldest of a batch",
            {
                f"p{share * 100:g}": _quantile(
                    share, "ray_sentinel_ingest_decision_seconds", of=STREAM
                )
                for share in (0.5, 0.99)
            },
            "s",
        ),
        Panel(
            "Workers",
            "Workers that there should be, and those that run",
            {
                "wanted": f"sum(ray_sentinel_ingest_workers_wanted{{{STREAM}}})",
                "running": f"sum(ray_sentinel_ingest_workers{{{STREAM}}})",
            },
        ),
    ),
}


def queries() -> list[str]:
    """Every query of the dashboard."""
    panels = (panel for row in ROWS.values() for panel in row)
    return [query for panel in panels for query in panel.queries.values()]


def dashboard() -> str:
    """The dashboard as JSON, as Grafana takes it."""
    made = (
        builder.Dashboard("SentinelStream")
        .uid("sentinelstream")
        .tags(["sentinelstream"])
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(builder.DatasourceVariable("source").type("prometheus"))
        .with_variable(
            builder.QueryVariable("cluster")
            .label("Ray cluster")
            .datasource(SOURCE)
            .query("label_values(ray_serve_application_status, ray_io_cluster)")
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    number = itertools.count(1)
    for title, panels in ROWS.items():
        made = made.with_row(builder.Row(title).id(next(number)))
        for panel in panels:
            made = made.with_panel(_picture(panel).id(next(number)))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build())


def _picture(panel: Panel) -> timeseries.Panel:
    picture = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .unit(panel.unit)
        .min(0)
        .datasource(SOURCE)
        .height(8)
        .span(8)
    )
    for name, (legend, query) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        target = prometheus.Dataquery().ref_id(name).expr(query).legend_format(legend)
        picture = picture.with_target(target)
    return picture


if __name__ == "__main__":
    print(dashboard())
