"""Logs of a service: what its pods print, and what Serve's replicas write into files beside it."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from ray_cluster.api import Cluster, asked
from ray_cluster.errors import ClusterError, RefusedByCluster
from ray_cluster.sightings import Pod

NOT_FOUND = 404

REPLICA_LOGS = "/tmp/ray/session_latest/logs/serve"
"""Where Ray keeps them in each pod: a file a replica, named after its deployment."""

Lines = Iterator[tuple[str, str]]


def pod_logs(cluster: Cluster, chosen: Sequence[Pod], tail: int, follow: bool) -> Lines:
    """Pairs of a pod's name and a line that its first container printed, the last ``tail`` of each;
    with ``follow`` then new ones of all of them as they come, until the caller stops.

    :raises ClusterError: the cluster refuses, or the kubelet does not answer.
    """
    if not follow:
        for pod in chosen:
            for line in _printed(cluster, pod, tail):
                yield pod.name, line
        return
    lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for pod in chosen:
        threading.Thread(target=_pass_on, args=(cluster, pod, tail, lines.put), daemon=True).start()
    while True:
        yield lines.get()


def _printed(cluster: Cluster, pod: Pod, tail: int) -> list[str]:
    core = client.CoreV1Api(cluster.api)

    def ask() -> Any:
        return core.read_namespaced_pod_log(
            pod.name, cluster.namespace, container=pod.container, tail_lines=tail
        )

    try:
        return str(asked(f"reading the log of pod {pod.name}", ask) or "").splitlines()
    except RefusedByCluster as error:
        if isinstance(error.__cause__, ApiException) and error.__cause__.status == NOT_FOUND:
            return ["(the pod has gone meanwhile)"]
        raise


def _pass_on(cluster: Cluster, pod: Pod, tail: int, put: Callable[[tuple[str, str]], None]) -> None:
    core = client.CoreV1Api(cluster.api)
    try:
        response = core.read_namespaced_pod_log(
            pod.name,
            cluster.namespace,
            container=pod.container,
            tail_lines=tail,
            follow=True,
            _preload_content=False,
        )
        for line in _lines(response):
            put((pod.name, line))
    except Exception as error:  # of any kind: the other pods' logs go on
        put((pod.name, f"(log ends: {error.__class__.__name__})"))
        return
    put((pod.name, "(log ends: the container has ended)"))


def _lines(response: Any) -> Iterator[str]:
    for line in response:
        yield line.decode(errors="replace").rstrip("\n")


def replica_logs(cluster: Cluster, chosen: Sequence[Pod], deployment: str, tail: int) -> Lines:
    """Pairs of a pod's name and a line of a replica of this deployment, the last ``tail`` of each.

    :raises ClusterError: no pod has such a file, or the account may not run commands in pods.
    """
    if not deployment.replace("_", "").isalnum():
        raise ClusterError(f"no deployment is called {deployment!r}")
    script = (
        f"cd {REPLICA_LOGS} && for f in *{deployment}*.log; do "
        f'[ -f "$f" ] && tail -v -n {tail} "$f"; done; true'
    )
    found = False
    for pod in chosen:
        for line in _run(cluster, pod, script):
            found = True
            yield pod.name, line
    if not found:
        where = ", ".join(pod.name for pod in chosen) or "none"
        raise ClusterError(f"no log of a deployment {deployment} in the pods {where}")


def _run(cluster: Cluster, pod: Pod, script: str) -> list[str]:
    core = client.CoreV1Api(cluster.api)

    def ask() -> Any:
        return stream(
            core.connect_get_namespaced_pod_exec,
            pod.name,
            cluster.namespace,
            container=pod.container,
            command=["sh", "-c", script],
            stdout=True,
            stderr=False,
            stdin=False,
            tty=False,
        )

    return str(asked(f"reading replicas' logs in pod {pod.name}", ask)).splitlines()
