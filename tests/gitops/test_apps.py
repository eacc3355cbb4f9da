"""The application of applications: waves, rights, and what an application that goes leaves behind.

The chart's own applications with their own waves and projects; what they hold is a stand-in from
the test's repository, as third parties' charts are out of reach here: a ConfigMap each, and for
KubeRay's operator a Deployment, which is healthy when the test says so.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from ray_cluster.api import Cluster
from ray_cluster.objects import Manifest, Ref
from ray_cluster.render import Release, parse, render
from tests.cluster.kube import eventually
from tests.gitops.application import (
    APPS,
    ARGO,
    REPOSITORY_OF_PROJECTS,
    ArgoCD,
    gone,
    project,
    render_apps,
)
from tests.gitops.repository import ROOT, Repository

OPERATOR = Ref("apps/v1", "Deployment", "operator")
VALUES = yaml.safe_load((ROOT / APPS / "values.yaml").read_text())
SHIPPED = VALUES["applications"]
PROJECTS = parse((ROOT / "ray_cluster/argocd/projects.yaml").read_text(), "projects.yaml")


class Root:
    """The root application with stand-ins, its names and namespace the test's own."""

    def __init__(self, argo: ArgoCD, folder: Path) -> None:
        self.argo, self.mark = argo, f"r-{secrets.token_hex(3)}"
        self.repository = Repository(folder / "git")
        self.cluster = Cluster(argo.cluster.api, self.mark)
        place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.mark}}
        self.cluster.apply(place)
        files = {f"stand-in/{name}/it.yaml": stand_in(name) for name in SHIPPED}
        self.repository.commit("Stand-ins", **files, **{f"{APPS}/values.yaml": self._values()})

    def _values(self) -> str:
        applications = {
            f"{self.mark}-{name}": {
                "enabled": True,
                "wave": shipped["wave"],
                "prune": shipped.get("prune", True),
                "project": self.mark,
                "namespace": self.mark,
                "path": f"stand-in/{name}",
            }
            for name, shipped in SHIPPED.items()
        }
        return yaml.safe_dump(VALUES | {"applications": applications})

    def start(self) -> None:
        root_project = project("sentinel-root", self.mark, self.repository.url)
        root_project["metadata"]["name"] = f"{self.mark}-root"
        root_project["spec"]["destinations"][0]["namespace"] = "argocd"
        self.argo.cluster.apply(root_project)
        self.argo.cluster.apply(project("sentinel-platform", self.mark, self.repository.url))
        root = parse((ROOT / "ray_cluster/argocd/root.yaml").read_text(), "root.yaml")[0]
        text = yaml.safe_dump(root).replace(REPOSITORY_OF_PROJECTS, self.repository.url)
        own: Manifest = yaml.safe_load(text.replace("sentinel-root", f"{self.mark}-root"))
        self.argo.cluster.apply(own)

    def there(self) -> set[str]:
        """Applications that exist, by their names in the chart."""
        found = self.argo.cluster.objects(ARGO, "Application")
        names = {each["metadata"]["name"] for each in found} - {f"{self.mark}-root"}
        return {n.removeprefix(f"{self.mark}-") for n in names if n.startswith(self.mark)}

    def healthy(self) -> bool:
        root = self.argo.application(f"{self.mark}-root")
        assert root is not None
        status = root.get("status", {})
        return (status.get("sync", {}).get("status"), status.get("health", {}).get("status")) == (
            "Synced",
            "Healthy",
        )

    def refresh(self) -> None:
        self.argo.refresh(f"{self.mark}-root")

    def remove(self) -> None:
        applications = Ref(ARGO, "Application", f"{self.mark}-root")
        self.argo.cluster.delete(applications)
        for name in self.there():
            self.argo.cluster.delete(Ref(ARGO, "Application", f"{self.mark}-{name}"))
        for name in (self.mark, f"{self.mark}-root"):
            self.argo.cluster.delete(Ref(ARGO, "AppProject", name))
        self.cluster.delete(Ref("v1", "Namespace", self.mark))


def stand_in(name: str) -> str:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return yaml.safe_dump(_deployment() if name == "kuberay" else config)


def _deployment() -> dict[str, Any]:
    container = {"name": "operator", "image": "example.com/operator:1"}
    labels = {"app": "operator"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "operator"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@pytest.fixture
def root(argo: ArgoCD, tmp_path: Path) -> Iterator[Root]:
    made = Root(argo, tmp_path)
    try:
        yield made
    finally:
        made.remove()


def of_waves(*waves: int) -> set[str]:
    return {name for name, shipped in SHIPPED.items() if shipped["wave"] in waves}


def test_each_wave_waits_for_the_health_of_the_one_before(root: Root) -> None:
    root.start()
    eventually(lambda: root.there() == of_waves(-3, -2), 120, "kinds, then operators")
    eventually(lambda: root.cluster.get(OPERATOR) is not None, 60, "the operator is applied")
    assert root.there() == of_waves(-3, -2)
    say_available(root.cluster)
    eventually(lambda: root.there() == set(SHIPPED), 120, "what the service stands on, then it")
    eventually(root.healthy, 60, "all of it is healthy")


def say_available(cluster: Cluster) -> None:
    """The operator's pod runs, as a node would say; the rest is the Deployment's controller's."""
    pods = eventually(lambda: cluster.objects("v1", "Pod", "app=operator"), 60, "it has a pod")
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    client.CoreV1Api(cluster.api).patch_namespaced_pod_status(
        pods[0]["metadata"]["name"],
        cluster.namespace,
        {"status": {"phase": "Running", "conditions": [ready]}},
    )


def test_an_application_that_goes_leaves_what_it_kept(root: Root) -> None:
    root.start()
    eventually(lambda: root.cluster.get(OPERATOR) is not None, 120, "the operator is applied")
    say_available(root.cluster)
    eventually(root.healthy, 120, "all of it is healthy")
    place = root.repository.checkout / APPS / "values.yaml"
    values = yaml.safe_load(place.read_text())
    values["applications"][f"{root.mark}-kafka"]["enabled"] = False
    root.repository.commit("No Kafka", **{f"{APPS}/values.yaml": yaml.safe_dump(values)})
    root.refresh()
    eventually(lambda: "kafka" not in root.there(), 60, "the application is gone")
    assert not gone(root.cluster, Ref("v1", "ConfigMap", "kafka"))


def test_the_server_takes_every_application_and_project(argo: ArgoCD) -> None:
    over = {"repoURL": REPOSITORY_OF_PROJECTS, "revision": "main"}
    shipped = parse((ROOT / "ray_cluster/argocd/root.yaml").read_text(), "root.yaml")
    for manifest in [*PROJECTS, *shipped, *render_apps(over)]:
        argo.cluster.apply(manifest, dry_run=True)


def test_each_application_is_pinned_and_allowed_by_its_project() -> None:
    over = {"repoURL": REPOSITORY_OF_PROJECTS, "revision": "v1"}
    projects = {each["metadata"]["name"]: each["spec"] for each in PROJECTS}
    for application in render_apps(over):
        spec, name = application["spec"], application["metadata"]["name"]
        allowed = projects[spec["project"]]
        assert spec["source"]["repoURL"] in allowed["sourceRepos"], name
        assert spec["destination"] in allowed["destinations"], name
        assert spec["source"]["targetRevision"] not in ("", "*", "HEAD", "main"), name
        if name.startswith("crds-") or name == "namespaces":
            assert spec["syncPolicy"]["automated"]["prune"] is False, name


def test_the_services_project_allows_the_kinds_that_the_chart_makes_and_no_others() -> None:
    mine = next(p for p in PROJECTS if p["metadata"]["name"] == "sentinel-service")["spec"]
    chart = ROOT / "ray_cluster" / "chart" / "values-production.yaml"
    production = ROOT / "ray_cluster" / "argocd" / "values" / "production.yaml"
    made = render(Release(values=(chart, production)))
    made += render(Release(settings=("redis.small.storage.size=1Gi",)))
    kinds = {(m["apiVersion"].rpartition("/")[0], m["kind"]) for m in made}
    allowed = {(each["group"], each["kind"]) for each in mine["namespaceResourceWhitelist"]}
    assert (kinds - allowed, allowed - kinds) == (set(), set())
    assert mine["clusterResourceWhitelist"] == []
