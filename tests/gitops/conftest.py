"""A real Argo CD on a real API server, a repository and a namespace for each test, and at the end a
list of what ran and what did not.

Both are started here, in folders of their own, from ``SERVICES`` (``../shared/services`` beside the
checkout), and are gone in the end. No operator and no node: by_hand.py says what is done instead.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ray_cluster.api import Cluster, connect
from ray_cluster.render import parse
from sentinel.bundle import open_bundle
from tests.cluster.kube import eventually
from tests.gitops.application import Application, ArgoCD
from tests.gitops.repository import ROOT
from tests.gitops.service import Service
from tests.rows_told import tell_rows

SERVICES = Path(os.environ.get("SERVICES", ROOT.parent / "shared" / "services")).resolve()
OPERATOR = os.environ.get("KUBERAY_OPERATOR", "")
NO_OPERATOR = (
    "KUBERAY_OPERATOR is not set: it names KubeRay's operator, which runs pods and is not in any "
    "package registry"
)
CONFIGURATION = ROOT / "ray_cluster" / "argocd" / "argocd-cm.yaml"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pods: needs KubeRay's operator and a node")
    if not (SERVICES / "argocd" / "up").exists():
        pytest.exit(f"make test-gitops: expected Argo CD's scripts in {SERVICES}", returncode=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("pods") and not OPERATOR:
            item.add_marker(pytest.mark.skip(reason=NO_OPERATOR))


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """helm on PATH: the one that Argo CD renders with, built if it is lacking."""
    found = _run("kube/build", "helm", "kubectl")["KUBE_BIN"]
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], found])


@pytest.fixture(scope="session")
def programs() -> Path:
    """Argo CD's own, built if they are lacking."""
    return Path(_run("argocd/build")["ARGOCD_BIN"])


@pytest.fixture(scope="session")
def argo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    """Argo CD with the configuration that is shipped, in a cluster of its own."""
    kube = str(tmp_path_factory.mktemp("kube"))
    crds = str(SERVICES.parent / "crds")
    try:
        kubeconfig = _run("kube/up", "--dir", kube, "--crds", crds)["KUBECONFIG"]
        with _argocd(kubeconfig, tmp_path_factory.mktemp("argocd")) as found:
            yield found
    finally:
        _run("kube/down", "--dir", kube, "--wipe")


@pytest.fixture(scope="session")
def argo_with_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    """The same on the cluster of ``KUBECONFIG``, which has a node and the operator."""
    with _argocd(os.environ["KUBECONFIG"], tmp_path_factory.mktemp("argocd")) as found:
        yield found


@contextmanager
def _argocd(kubeconfig: str, folder: Path) -> Iterator[ArgoCD]:
    anywhere = connect(kubeconfig, None, None)
    for kind in parse(Path(__file__).with_name("kinds.yaml").read_text(), "kinds.yaml"):
        anywhere.apply(kind)
    up = ("--dir", str(folder), "--kubeconfig", kubeconfig, "--argocd-cm", str(CONFIGURATION))
    try:
        _run("argocd/up", *up)
        there = Cluster(anywhere.api, "argocd")
        yield ArgoCD(there, folder, lambda: _run("argocd/up", *up))
    finally:
        _run("argocd/down", "--dir", str(folder), "--wipe")


def _run(script: str, *arguments: str) -> dict[str, str]:
    """What one of the scripts printed, as NAME=value."""
    command = [str(SERVICES / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.fixture(scope="session")
def other_bundle(plain_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another version of it."""
    from tests.gitops.bundles import with_another_seed

    return with_another_seed(plain_bundle, tmp_path_factory.mktemp("other") / "bundle")


@pytest.fixture
def application(argo: ArgoCD, tmp_path: Path, plain_bundle: str) -> Iterator[Application]:
    """The service's application, in a namespace of its own, by a repository of its own; nothing is
    synced yet. Its commits name the bundle ``plain_bundle``."""
    service = Service()
    with service.by(plain_bundle):
        made = Application(argo, tmp_path, service)
        made.repository.commit_values(
            "Begin",
            bundle={"uri": plain_bundle, "digest": open_bundle(plain_bundle).digest},
            argocd={"smokeSeconds": 3},
        )
        try:
            yield made
        finally:
            made.remove()


@pytest.fixture
def live(application: Application) -> Application:
    """The same, synced, healthy and asked."""
    application.start()
    application.run()
    eventually(application.settled, 90, "the first commit is live")
    return application


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What ran, then what was NOT RUN and why, a row each: the last lines of the suite."""
    terminalreporter.write_line(
        f"rows on Argo CD, operator: {OPERATOR or 'none, its status is set by hand'}"
    )
    tell_rows(terminalreporter)
