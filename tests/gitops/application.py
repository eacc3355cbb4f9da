"""The service's application as the tests see it: what Argo CD has made of the newest commit."""

import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ray_cluster.api import Cluster
from ray_cluster.errors import RefusedByCluster
from ray_cluster.objects import Manifest, Ref, ray_service
from ray_cluster.render import parse
from tests.cluster.kube import eventually
from tests.gitops.by_hand import Pods, say_running
from tests.gitops.repository import ROOT, Repository
from tests.gitops.service import Service

ARGO = "argoproj.io/v1alpha1"
APPS = Path("ray_cluster/argocd/apps")
REPOSITORY_OF_PROJECTS = "https://git.example.com/fraud/sentinelstream.git"
QUICK = {"limit": 1, "refresh": True, "backoff": {"duration": "1s", "factor": 1}}
"""The retries that are shipped, only sooner over."""


@dataclass(frozen=True)
class ArgoCD:
    """``cluster`` is in its namespace; ``up`` starts what has ended, as its supervisor would."""

    cluster: Cluster
    folder: Path
    up: Callable[[], Any]

    def application(self, name: str) -> Manifest | None:
        return self.cluster.get(Ref(ARGO, "Application", name))

    def refresh(self, name: str) -> None:
        """Looks at Git now, not at the next of its rounds."""
        path = "/metadata/annotations/argocd.argoproj.io~1refresh"
        operation = {"op": "add", "path": path, "value": "normal"}
        self.cluster.patch(Ref(ARGO, "Application", name), [operation])


class Application:
    """The application ``sentinel`` of the apps chart as a test's own: in another namespace, by
    another repository, with the trial's values below those of production.yaml."""

    def __init__(self, argo: ArgoCD, folder: Path, service: Service | None) -> None:
        """With ``service`` the hooks' pods are run by the test, without by a node."""
        self.argo = argo
        self.name = f"s-{secrets.token_hex(3)}"
        self.repository = Repository(folder / "git")
        self.cluster = Cluster(argo.cluster.api, self.name)
        self._make_namespace()
        self._by_hand = None if service is None else Pods(self.cluster, service, folder)
        self._seen = 0

    def _make_namespace(self) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        self.cluster.apply(namespace)

    def start(self) -> None:
        """Its project and itself, as the shipped files have them."""
        self.argo.cluster.apply(project("sentinel-service", self.name, self.repository.url))
        self.argo.cluster.apply(self._manifest())

    def _manifest(self) -> Manifest:
        values = yaml.safe_load((ROOT / APPS / "values.yaml").read_text())
        mine = values["applications"]["sentinel"] | {
            "project": self.name,
            "namespace": self.name,
            "releaseName": "sentinel",
            "valueFiles": ["../argocd/values/production.yaml"],
        }
        others = {name: {"enabled": False} for name in values["applications"]}
        over = {"repoURL": self.repository.url, "revision": "main", "retry": QUICK}
        made = render_apps(over | {"applications": others | {self.name: mine}})
        assert len(made) == 1
        return made[0]

    def remove(self) -> None:
        if self._by_hand is not None:
            self._by_hand.close()
        for kind in ("Application", "AppProject"):
            self.argo.cluster.delete(Ref(ARGO, kind, self.name))
        self.cluster.delete(Ref("v1", "Namespace", self.name))

    def refresh(self) -> None:
        self.argo.refresh(self.name)

    @property
    def pods(self) -> Pods:
        """The hooks' pods and the service they ask, where the test runs them."""
        assert self._by_hand is not None
        return self._by_hand

    # --- what is there ---

    def live(self) -> Manifest:
        found = self.argo.application(self.name)
        assert found is not None
        return found

    def rayservice(self) -> Manifest | None:
        return self.cluster.get(ray_service("sentinel", self.name))

    def bundle(self) -> str:
        """The one that the RayService in the cluster names."""
        service = self.rayservice()
        assert service is not None
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
        uri: str = config["applications"][0]["deployments"][0]["user_config"]["bundle"]
        return uri

    def run(self, **said: Any) -> None:
        """Waits for a change of the RayService, and says of it what an operator would."""
        eventually(self._changed, 60, "the RayService is applied")
        say_running(self.cluster, **said)

    def _changed(self) -> bool:
        service = self.rayservice()
        if service is None or service["metadata"]["generation"] == self._seen:
            return False
        self._seen = service["metadata"]["generation"]
        return True

    # --- what Argo CD says ---

    def settled(self) -> bool:
        """As the newest commit has it, healthy, and its hooks passed, if it needed a sync."""
        status = self.live().get("status", {})
        operation, sync = status.get("operationState", {}), status.get("sync", {})
        return (
            (operation.get("phase") == "Succeeded" or not self._is_newest(operation))
            and (sync.get("status"), sync.get("revision")) == ("Synced", self._newest())
            and status["health"]["status"] == "Healthy"
        )

    def health(self) -> str:
        word: str = self.live().get("status", {}).get("health", {}).get("status", "")
        return word

    def failure(self) -> str:
        """Why the sync of the newest commit failed, all of it; empty while it has not."""
        operation = self.live().get("status", {}).get("operationState", {})
        if operation.get("phase") not in ("Failed", "Error") or not self._is_newest(operation):
            return ""
        results = operation["syncResult"].get("resources") or []
        return "\n".join([operation["message"], *(each.get("message", "") for each in results)])

    def waits_for(self) -> str:
        """What the running sync waits for; empty while none runs."""
        operation = self.live().get("status", {}).get("operationState", {})
        return operation.get("message", "") if operation.get("phase") == "Running" else ""

    def cannot_render(self) -> str:
        """Why the newest commit is no set of objects; empty while it is one."""
        conditions = self.live().get("status", {}).get("conditions") or []
        said = [each["message"] for each in conditions if each["type"] == "ComparisonError"]
        return said[0] if said else ""

    def _newest(self) -> str:
        return self.repository.git("rev-parse", "HEAD")

    def _is_newest(self, operation: dict[str, Any]) -> bool:
        synced: str = operation.get("syncResult", {}).get("revision", "")
        return synced == self._newest()


def project(name: str, namespace: str, url: str) -> Manifest:
    """A project of projects.yaml for another namespace and repository, and named after it."""
    text = (ROOT / "ray_cluster" / "argocd" / "projects.yaml").read_text()
    shipped = next(p for p in parse(text, "projects.yaml") if p["metadata"]["name"] == name)
    own = yaml.safe_dump(shipped).replace(REPOSITORY_OF_PROJECTS, url).replace(name, namespace)
    made: Manifest = yaml.safe_load(own)
    for destination in made["spec"]["destinations"]:
        destination["namespace"] = namespace
    return made


def render_apps(values: dict[str, Any]) -> list[Manifest]:
    """The apps chart by helm, with these over its own values."""
    command = ["helm", "template", "root", str(ROOT / APPS), "-n", "argocd", "--values", "-"]
    text = yaml.safe_dump(values)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout, "helm's output")


def gone(cluster: Cluster, ref: Ref) -> bool:
    """Whether there is no such object."""
    try:
        return cluster.get(ref) is None
    except RefusedByCluster:
        return False
