"""One command to a trial: ``make cluster-up`` and ``make cluster-down``.

Up: an image, on the cluster's nodes; KubeRay's operator, unless there is one; the chart with its
trial values; a wait that explains; and how to reach it. Each step may be done again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ray_cluster.api import Cluster, connect
from ray_cluster.errors import ClusterError
from ray_cluster.needed_secrets import is_made, missing_secrets
from ray_cluster.objects import RAY, Manifest, Ref
from ray_cluster.release import deploy
from ray_cluster.render import Release, render
from ray_cluster.revisions import revisions
from ray_cluster.trial_places import KIND_NAME, Place, engine, find_or_make, is_here, load, run
from ray_cluster.wait import wait
from sentinel.console import note
from sentinel.errors import SentinelError

OPERATOR_CHART = "https://ray-project.github.io/kuberay-helm/"
OPERATOR_VERSION = "1.7.0"
"""Of KubeRay: what this chart's fields and this client's statuses were written for."""

OPERATOR_NAMESPACE = "kuberay-system"
OURS = {"app.kubernetes.io/managed-by": "sentinel-trial"}
"""Label of what ``cluster-up`` made, and ``cluster-down`` therefore removes."""

GONE_S = 180.0


def up(options: argparse.Namespace) -> None:
    """:raises SentinelError: a step failed; what came before it stays, and up again goes on."""
    place, context = find_or_make(options.context)
    image = options.image or _built()
    if options.load or (place.sort != "other" and is_here(image)) or not options.image:
        load(image, place, options.load)
    cluster = connect(None, context, options.namespace)
    _operator(cluster, options.operator)
    _namespace(cluster, cluster.namespace)
    release = Release(
        options.name,
        cluster.namespace,
        tuple(options.values),
        (*image_settings(image), *_without_monitors(cluster), *options.set),
    )
    manifests = render(release)
    for needed in missing_secrets(cluster, manifests):
        if not is_made(needed, manifests):
            raise ClusterError(f"Secret {needed} is not in {cluster.namespace}: make it first")
    deploy(cluster, manifests)
    ready = wait(cluster, options.name, options.timeout, note)
    note(f"{options.name} is {ready.health} after {ready.seconds:g} s: {ready.reason}")
    print(how_to_reach(cluster, options.name))


def down(options: argparse.Namespace) -> None:
    """Removes what ``up`` made, and no more: the release; its namespace, the operator and the kind
    cluster only if ``up`` made those."""
    place = find_or_make(options.context)[0] if _has_kubeconfig() else None
    if place is None:
        note("no kubeconfig: nothing to take down")
        return
    if place == Place("kind", KIND_NAME):
        run(["kind", "delete", "cluster", "--name", KIND_NAME], "removing the cluster")
        return
    cluster = connect(None, options.context, options.namespace)
    _remove_release(cluster, options.name)
    for namespace, after in ((cluster.namespace, ()), (OPERATOR_NAMESPACE, _helm_uninstall())):
        found = cluster.get(Ref("v1", "Namespace", namespace))
        if found is not None and _is_ours(found):
            if after:
                run(after, "removing the operator")
            cluster.delete(Ref("v1", "Namespace", namespace))
            note(f"removed: namespace {namespace}")


def how_to_reach(cluster: Cluster, name: str) -> str:
    """What to type to reach the API, the dashboard and Grafana from this machine."""
    space = cluster.namespace
    return f"""
API         kubectl -n {space} port-forward service/{name}-serve-svc 8000:8000
            then http://127.0.0.1:8000/ (the live page) and http://127.0.0.1:8000/docs
dashboard   kubectl -n {space} port-forward service/{name}-head-svc 8265:8265
            then http://127.0.0.1:8265/ with the token that this prints:
            {_token_command(cluster, name)}
Grafana     {_grafana(cluster, name)}
status      sentinel cluster status -n {space} --name {name}
remove      make cluster-down"""


def _token_command(cluster: Cluster, name: str) -> str:
    found = cluster.objects(RAY, "RayCluster", f"ray.io/originated-from-cr-name={name}")
    secret = found[0]["metadata"]["name"] if found else "RAYCLUSTER"
    jsonpath = "-o jsonpath='{.data.auth_token}'"
    return f"kubectl -n {cluster.namespace} get secret {secret} {jsonpath} | base64 -d"


def _grafana(cluster: Cluster, name: str) -> str:
    wanted = "app.kubernetes.io/name=grafana"
    everywhere = Cluster(cluster.api, "")
    found = everywhere.objects("v1", "Service", wanted)
    config_map = f"the dashboard is ConfigMap {name}-dashboard"
    if not found:
        return f"none in the cluster; {config_map}: import its JSON, or label for a sidecar"
    metadata = found[0]["metadata"]
    place = f"-n {metadata['namespace']} port-forward service/{metadata['name']} 3000:80"
    return f"kubectl {place}; {config_map}"


def _built() -> str:
    image = f"localhost/sentinelstream:{version('sentinelstream')}"
    wanted = [f"ENGINE={engine()}", f"IMAGE={image}", "IMAGE_BUNDLE=bundles/transactions"]
    run(["make", "image", *wanted], "building the image")
    return image


def image_settings(image: str) -> tuple[str, ...]:
    """The chart's settings for this image.

    :raises ClusterError: neither a tag nor a digest; what runs must be known.
    """
    name, at, digest = image.partition("@")
    if at:
        return (f"image.repository={name}", f"image.digest={digest}")
    repository, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        raise ClusterError(f"IMAGE is {image!r}; expected NAME:TAG or NAME@sha256:…")
    return (f"image.repository={repository}", f"image.tag={tag}")


def _without_monitors(cluster: Cluster) -> tuple[str, ...]:
    """A trial cluster rarely has Prometheus' operator; the dashboard needs only a ConfigMap."""
    try:
        cluster.resource(Ref("monitoring.coreos.com/v1", "PodMonitor", ""))
    except ClusterError:
        note("no Prometheus operator in the cluster: without PodMonitors and rules")
        return ("monitoring.enabled=false",)
    return ()


def _operator(cluster: Cluster, wanted: str) -> None:
    if wanted == "present" or _has_operator(cluster):
        note("KubeRay's operator is there")
        return
    _namespace(cluster, OPERATOR_NAMESPACE)
    command = ["helm", "upgrade", "--install", "kuberay-operator", "kuberay-operator"]
    command += ["--repo", OPERATOR_CHART, "--version", OPERATOR_VERSION]
    command += ["--namespace", OPERATOR_NAMESPACE, "--wait"]
    run(command, "installing KubeRay's operator")


def _has_operator(cluster: Cluster) -> bool:
    everywhere = Cluster(cluster.api, "")
    selector = "app.kubernetes.io/name=kuberay-operator"
    return bool(everywhere.objects("apps/v1", "Deployment", selector))


def _namespace(cluster: Cluster, name: str) -> None:
    """Made, and marked as ours, unless it is there."""
    if cluster.get(Ref("v1", "Namespace", name)) is None:
        made: Manifest = {"apiVersion": "v1", "kind": "Namespace"}
        cluster.apply(made | {"metadata": {"name": name, "labels": OURS}})


def _is_ours(manifest: Manifest) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    return OURS.items() <= labels.items()


def _remove_release(cluster: Cluster, name: str) -> None:
    """The RayService first, while the operator is there: it cleans up behind a cluster on Redis."""
    known = revisions(cluster, name)
    refs = [Ref.of(m) for m in known[-1].manifests] if known else []
    services = [ref for ref in refs if ref.kind == "RayService"]
    for ref in services:
        cluster.delete(ref)
    deadline = time.monotonic() + GONE_S
    while cluster.objects(RAY, "RayCluster", f"ray.io/originated-from-cr-name={name}"):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the Ray clusters of {name} are still there after {GONE_S:g} s; is KubeRay's "
                "operator running? It has to clean up before they can go"
            )
        time.sleep(1)
    for ref in refs:
        cluster.delete(ref)
    note(f"removed: {len(refs)} objects of {name}")


def _helm_uninstall() -> Sequence[str]:
    return ["helm", "uninstall", "kuberay-operator", "--namespace", OPERATOR_NAMESPACE]


def _has_kubeconfig() -> bool:
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        config.list_kube_config_contexts()
    except ConfigException:
        return False
    return True


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ray_cluster.trial", description=__doc__)
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--name", default="sentinel", help="of the release")
    parser.add_argument("--namespace", default="sentinel")
    parser.add_argument("--context", default=None, help="of the kubeconfig")
    parser.add_argument("--image", default=None, help="one the nodes have or can pull; not built")
    parser.add_argument("--load", default=None, help="program that brings an image to the nodes")
    parser.add_argument(
        "--operator",
        choices=("install", "present"),
        default="install",
        help="present: it runs where it cannot be seen, do not look for it",
    )
    parser.add_argument("--values", action="append", type=Path, default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=900, help="seconds until it is healthy")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """0, or 1 with what failed on standard error."""
    options = _arguments(sys.argv[1:] if words is None else words)
    try:
        (up if options.what == "up" else down)(options)
    except SentinelError as error:
        note(f"cluster-{options.what}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
