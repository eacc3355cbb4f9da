"""What a node and KubeRay's operator do, done by the tests where there is neither.

A hook's pod is *run*: its own command with its own arguments and environment, by the rights of its
own account; its status is then what the command's real result makes it. The RayService's status is
set by hand. docs/gitops.md says which rows rest on this.
"""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from kubernetes import client
from typer.testing import CliRunner

from ray_cluster.api import Cluster
from ray_cluster.objects import Manifest, Ref, annotation, ray_service
from sentinel.cli import build_app
from sentinel.errors import SentinelError
from tests.cluster.kube import account, set_status, status_of
from tests.gitops.service import Service

LOG_TAIL = 2048
"""Bytes of a container's output that become its termination message."""


class Pods:
    """Runs the hooks' pods of a namespace, one after the other, until closed."""

    def __init__(self, cluster: Cluster, service: Service, folder: Path) -> None:
        self.cluster, self.service, self.folder = cluster, service, folder
        self.ran: list[str] = []
        self.held = threading.Event()
        """While it is clear, pods stay Pending."""
        self.held.set()
        self._closed = threading.Event()
        self._core = client.CoreV1Api(cluster.api)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(30)

    def _loop(self) -> None:
        while not self._closed.wait(0.2):
            if not self.held.is_set():
                continue
            try:
                for pod in self._pending():
                    self._run(pod)
            except Exception:  # the server is away for a while: seen again in the next round
                traceback.print_exc(file=sys.stderr)

    def _pending(self) -> list[Manifest]:
        return [
            pod
            for pod in self.cluster.objects("v1", "Pod")
            if annotation(pod, "argocd.argoproj.io/hook")
            and pod["status"]["phase"] == "Pending"
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def _run(self, pod: Manifest) -> None:
        container = pod["spec"]["containers"][0]
        part = container["name"]
        arguments = [*container["command"][1:], *container["args"]]
        if part == "smoke":  # there is no cluster DNS out here
            arguments[arguments.index("--url") + 1] = self.service.url
        if part == "bounds":
            arguments += ["--kubeconfig", str(self._kubeconfig(pod)), "-n", self.cluster.namespace]
        given = {each["name"]: each["value"] for each in container.get("env", [])}
        code, said = run_command(arguments, given)
        self.ran.append(part)
        self._core.patch_namespaced_pod_status(
            pod["metadata"]["name"], self.cluster.namespace, {"status": _ended(part, code, said)}
        )

    def _kubeconfig(self, pod: Manifest) -> Path:
        """Of the pod's own account."""
        as_account = account(self.cluster, pod["spec"]["serviceAccountName"]).api.configuration
        token = as_account.api_key["BearerToken"].removeprefix("Bearer ")
        server = {"server": as_account.host, "certificate-authority": as_account.ssl_ca_cert}
        file = self.folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": server}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        file.write_text(json.dumps(content))
        return file


def run_command(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of ``sentinel`` with these, in this process: its interpreter's start is
    spared, and nothing else."""
    given = {k: v for k, v in environment.items() if k != "HOME"}
    done = CliRunner().invoke(build_app(), arguments, env={**given, "COLUMNS": "200"})
    if isinstance(done.exception, SentinelError):  # as ``main`` says it
        return 1, f"{done.output}sentinel: {done.exception}"
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def _ended(name: str, code: int, said: str) -> dict[str, Any]:
    message = said.strip()[-LOG_TAIL:] if code else ""
    state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
    if message:
        state["terminated"]["message"] = message
    fields = {"ready": False, "restartCount": 0, "image": "by hand", "imageID": ""}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": name, "state": state, **fields}],
    }


def say_running(cluster: Cluster, **said: Any) -> None:
    """The RayService's status, as the operator writes it once the change it sees now runs."""
    ref = ray_service("sentinel", cluster.namespace)
    set_status(cluster, ref, status_of(cluster, **said))


def live_ray_cluster(cluster: Cluster) -> Ref:
    """A RayCluster as KubeRay makes it: it copies the RayService's labels and annotations, those of
    Argo CD among them (kuberay#5114)."""
    service = cluster.get(ray_service("sentinel", cluster.namespace))
    assert service is not None
    metadata = service["metadata"]
    made = {
        "apiVersion": service["apiVersion"],
        "kind": "RayCluster",
        "metadata": {
            "name": "sentinel-live",
            "labels": metadata.get("labels", {}),
            "annotations": metadata.get("annotations", {}),
        },
        "spec": service["spec"]["rayClusterConfig"],
    }
    cluster.create(made)
    return Ref.of(made)


def end(pid_file: Path, number: int) -> None:
    """Sends a signal to the process that this file of its starter names."""
    os.kill(int(pid_file.read_text().split()[0]), number)
