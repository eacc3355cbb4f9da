"""A real API server, a fresh namespace a test, and at the end a list of what ran and what did not.

``KUBECONFIG`` names the server, which has KubeRay's CRDs; helm is on PATH. Nothing here stands in
for KubeRay's operator: where it is needed, ``KUBERAY_OPERATOR`` says that one is there, and without
it those rows are NOT RUN.
"""

import copy
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_cluster.api import Cluster, connect
from ray_cluster.objects import Manifest, Ref
from tests.cluster.kube import OPERATOR, kubernetes_version, trial_of
from tests.rows_told import tell_rows

NO_OPERATOR = (
    "KUBERAY_OPERATOR is not set: it names KubeRay's operator, which runs pods and is not in any "
    "package registry"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pods: needs KubeRay's operator and a node")
    for what, is_there in {
        "KUBECONFIG of an API server with KubeRay's CRDs": "KUBECONFIG" in os.environ,
        "helm on PATH": shutil.which("helm") is not None,
    }.items():
        if not is_there:
            pytest.exit(f"make test-cluster: expected {what}", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("pods") and not OPERATOR:
            item.add_marker(pytest.mark.skip(reason=NO_OPERATOR))


@pytest.fixture(scope="session")
def anywhere() -> Cluster:
    """The API server, in no namespace of ours."""
    return connect(None, None, None)


@pytest.fixture
def cluster(anywhere: Cluster) -> Iterator[Cluster]:
    """The API server, in a namespace of this test's own."""
    name = f"test-{secrets.token_hex(4)}"
    anywhere.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield Cluster(anywhere.api, name)
    anywhere.delete(Ref("v1", "Namespace", name))


@pytest.fixture(scope="session")
def rendered() -> list[Manifest]:
    return trial_of()


@pytest.fixture
def trial(rendered: list[Manifest]) -> list[Manifest]:
    """The chart with its trial values, as deploy gets it; a test may change it."""
    return copy.deepcopy(rendered)


@pytest.fixture(scope="session")
def production_values() -> Path:
    return Path(__file__).parents[2] / "ray_cluster" / "chart" / "values-production.yaml"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """What ran, then what was NOT RUN and why, a row each: the last lines of the suite."""
    yield
    terminalreporter.write_line(
        f"rows on Kubernetes {kubernetes_version()}, operator: {OPERATOR or 'none'}"
    )
    tell_rows(terminalreporter)
