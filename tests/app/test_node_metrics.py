"""The metrics page is the node's, less what is not this application's."""

from prometheus_client.parser import text_string_to_metric_families

from serve_app.node_metrics import of_application

PAGE = """\
# HELP ray_sentinel_requests_total answered
# TYPE ray_sentinel_requests_total counter
ray_sentinel_requests_total{application="sentinel",replica="a",status="200"} 3.0
ray_sentinel_requests_total{application="sentinel",replica="b",status="200"} 4.0
ray_sentinel_requests_total{application="other",replica="c",status="200"} 9.0
# HELP ray_serve_num_http_requests_total by Serve
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{application="sentinel",route="/"} 7.0
# HELP ray_node_cpu_count cores
# TYPE ray_node_cpu_count gauge
ray_node_cpu_count{application="sentinel"} 2.0
# HELP ray_sentinel_stage_ms by stage
# TYPE ray_sentinel_stage_ms histogram
ray_sentinel_stage_ms_bucket{application="sentinel",le="1.0"} 1.0
ray_sentinel_stage_ms_bucket{application="sentinel",le="+Inf"} 2.0
ray_sentinel_stage_ms_count{application="sentinel"} 2.0
ray_sentinel_stage_ms_sum{application="sentinel"} 5.5
# HELP ray_sentinel_queue_rows of nobody here
# TYPE ray_sentinel_queue_rows gauge
ray_sentinel_queue_rows{application="other"} 1.0
"""


def test_only_this_applications_metrics_are_shown_from_all_its_replicas() -> None:
    families = {
        family.name: family
        for family in text_string_to_metric_families(of_application(PAGE, "sentinel").decode())
    }
    assert set(families) == {
        "ray_sentinel_requests",
        "ray_serve_num_http_requests",
        "ray_sentinel_stage_ms",
    }
    requests = families["ray_sentinel_requests"]
    found = {s.labels["replica"]: s.value for s in requests.samples if s.name.endswith("_total")}
    assert found == {"a": 3, "b": 4}
    assert (requests.type, requests.documentation) == ("counter", "answered")
    buckets = families["ray_sentinel_stage_ms"].samples
    assert [(s.name.rsplit("_", 1)[1], s.value) for s in buckets] == [
        ("bucket", 1),
        ("bucket", 2),
        ("count", 2),
        ("sum", 5.5),
    ]


def test_an_application_without_metrics_has_an_empty_page() -> None:
    assert of_application(PAGE, "nobody") == b""
    assert of_application("", "sentinel") == b""
