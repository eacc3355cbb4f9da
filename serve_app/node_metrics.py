"""``GET /metrics``: what Ray's own agent on this node has collected from the application.

Every replica hands its metrics to the agent, and any replica may be asked for the page: so it is
the agent's view that is shown, the same whoever answers, and never that of one process.
"""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterable

import ray
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from serve_app.problems import Problem

_PREFIXES = ("ray_sentinel_", "ray_serve_")
_PATIENCE = 5.0


class NodeMetrics:
    """The metrics of one application's replicas on this node."""

    def __init__(self, address: str, application: str) -> None:
        """``address``: URL of the agent's own page, which has every process of the node."""
        self._address = address
        self._application = application

    async def text(self) -> bytes:
        """The metrics in Prometheus' text format.

        :raises Problem: 503, the agent does not answer.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        try:
            with urllib.request.urlopen(self._address, timeout=_PATIENCE) as answer:
                page = answer.read().decode()
        except (urllib.error.URLError, OSError) as error:
            detail = f"Ray's metrics agent at {self._address} does not answer: {error}"
            again = {"retry-after": "1"}
            raise Problem(503, "metrics-unavailable", detail, headers=again) from error
        return of_application(page, self._application)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def of_application(page: str, application: str) -> bytes:
    """The part of a page in Prometheus' text format that is about this Serve application."""
    tag = f'application="{application}"'
    # The whole page is megabytes on a busy node; what is not asked for is dropped unparsed.
    lines = (
        line
        for line in page.splitlines()
        if tag in line or line.startswith(("# HELP ray_se", "# TYPE ray_se"))
    )
    families = [
        family
        for family in text_string_to_metric_families("\n".join(lines) + "\n")
        if family.name.startswith(_PREFIXES) and family.samples
    ]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


def agent_address() -> str:
    """URL of the page of Ray's metrics agent on the node that this process runs on."""
    here = ray.get_runtime_context().get_node_id()
    (node,) = (
        node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["NodeID"] == here
    )
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
