"""The trial in real pods, as tests drive it: requests, load beside what happens, and a table of
what was seen."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.errors import ClusterError
from ray_cluster.objects import Ref
from ray_cluster.rayservice import RayService, read_service
from ray_cluster.release import deploy, live_service
from ray_cluster.render import Release, render
from ray_cluster.sightings import Pod, pods
from ray_cluster.wait import wait
from tests.cluster.kube import TRIAL, eventually, kubernetes_version

IMAGE = os.environ.get("SENTINEL_IMAGE", "localhost/sentinelstream:0.1.0")
NEXT_IMAGE = os.environ.get("SENTINEL_NEXT_IMAGE", "")
READY_S = 420.0
SENTINEL = Path(sys.executable).parent / "sentinel"


class Loaded(msgspec.Struct):
    """What ``sentinel load`` said in the end."""

    requests: int = 0
    failed: int = 0
    p95_ms: float | None = None


class Service:
    """One release in a namespace; requests go to its serve Service's own address."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def deploy(self, image: str, *settings: str) -> None:
        repository, _, tag = image.rpartition(":")
        of_image = (f"image.repository={repository}", f"image.tag={tag}")
        manifests = render(Release(settings=(*TRIAL, *SMALL, *of_image, *settings)))
        deploy(self.cluster, manifests)

    def wait(self) -> float:
        return wait(self.cluster, "sentinel", READY_S, print).seconds

    def read(self) -> RayService:
        manifest = live_service(self.cluster, "sentinel")
        assert manifest is not None
        return read_service(manifest)

    @property
    def ray_cluster(self) -> str:
        return self.read().status.active_service_status.ray_cluster_name

    def pods(self, role: str) -> list[Pod]:
        return [pod for pod in pods(self.cluster, self.read()) if pod.role == role]

    def kill(self, pod: Pod) -> None:
        self.cluster.delete(Ref("v1", "Pod", pod.name))

    @property
    def url(self) -> str:
        found = self.cluster.get(Ref("v1", "Service", "sentinel-serve-svc"))
        assert found is not None
        return f"http://{found['spec']['clusterIP']}:8000"

    def score(self) -> dict[str, Any]:
        """The answer to one transaction; the first one after Ready may be refused once."""
        body = json.dumps(TRANSACTION).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/predict", body, kind)

        def ask() -> dict[str, Any] | None:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    answered: dict[str, Any] = json.load(answer)
                    return answered
            except OSError:
                return None

        return eventually(ask, 60, "a transaction is scored")

    @contextmanager
    def load(self, users: int = 4) -> Iterator[Loaded]:
        """``sentinel load`` beside the block, and until a little after it."""
        result = Loaded()
        command = [str(SENTINEL), "load", "--url", self.url, "--users", str(users), "--json"]
        command += ["--duration", "900", "--timeout", "10", "--p95", "100000"]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stderr is not None
        # Its first line: it has started, reached the service, and puts load on it from now on.
        assert "model version" in running.stderr.readline()
        try:
            time.sleep(5)
            yield result
            time.sleep(5)
        finally:
            # As Ctrl-C: it ends early, with its result.
            running.send_signal(2)
            said, _ = running.communicate(timeout=60)
        found = json.loads(said)
        result.requests, result.failed = found["requests"], found["failed"]
        result.p95_ms = found["p95_ms"]


# As small as the rows allow: a node of two cores has head and two workers on it at once.
SMALL = ("workers.maxReplicas=2", "workers.idleTimeoutSeconds=60")
if "SENTINEL_REDIS_IMAGE" in os.environ:
    # Where nodes cannot pull the chart's own.
    SMALL += (f"redis.small.image={os.environ['SENTINEL_REDIS_IMAGE']}",)
TRANSACTION = {
    "transaction_id": "t1",
    "timestamp": "2018-08-01T10:00:00Z",
    "customer_id": "42",
    "terminal_id": "7",
    "amount": 57.16,
}


def seconds_until(look: Callable[[], bool], within: float, what: str) -> float:
    """How long it took until ``look`` was true; a cluster that does not answer is not."""
    began = time.monotonic()

    def safely() -> bool:
        try:
            return look()
        except ClusterError:
            return False

    eventually(safely, within, what)
    return time.monotonic() - began


class Rows:
    """What was seen, a line each, for the table of docs/cluster.md."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def note(self, what: str, seen: str) -> None:
        self.lines.append((what, seen))

    def write(self, file: Path, operator: str) -> None:
        today = datetime.now(UTC).date().isoformat()
        versions = f"{today}, Kubernetes {kubernetes_version()}, operator: {operator}"
        table = "\n".join(f"| {what} | {seen} |" for what, seen in self.lines)
        file.write_text(f"{versions}\n\n| row | seen |\n|---|---|\n{table}\n")
