"""``sentinel cluster status``, ``wait``, ``scale`` and ``logs``: how a service is."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ray_cluster.errors import ClusterError
from ray_cluster.options import Context, Force, Json, Kubeconfig, Name, Namespace, cluster_of
from sentinel.console import note, print_json
from sentinel.errors import UsageError

if TYPE_CHECKING:
    from ray_cluster.api import Cluster
    from ray_cluster.sightings import Pod


class Part(StrEnum):
    """Pods of a service."""

    ALL = "all"
    HEAD = "head"
    WORKER = "worker"


def status(
    name: Name = "sentinel",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Show how a service is: versions, upgrade, applications and replicas, pods, last warnings.

    Example: sentinel cluster status -n fraud
    """
    from ray_cluster.status import status as read_status
    from ray_cluster.status_page import show

    found = read_status(cluster_of(kubeconfig, context, namespace), name)
    if json:
        print_json(found)
    else:
        show(found)


def wait(
    name: Name = "sentinel",
    namespace: Namespace = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 900,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Wait until a service is healthy, saying meanwhile what is in the way.

    Healthy: its last change has been seen, no upgrade is under way, every application runs. Exit
    code 1 if that is not so in time, with what was seen: pods, events, Serve's messages.

    Example: sentinel cluster wait -n fraud --timeout 600
    """
    from ray_cluster.wait import wait as wait_for

    done = wait_for(cluster_of(kubeconfig, context, namespace), name, timeout, note)
    if json:
        print_json(done)
    else:
        typer.echo(f"{done.service} is {done.health} after {done.seconds:g} s: {done.reason}")


def scale(
    workers: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Worker pods, fewest and most.")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Serve replicas, fewest and most.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Worker group.", show_default="the only one")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(help="Deployment.", show_default="all that scale by themselves")
    ] = None,
    name: Name = "sentinel",
    namespace: Namespace = None,
    force: Force = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Change between how many worker pods and Serve replicas a service scales by itself.

    Changes the RayService and the Ray cluster that runs: KubeRay brings other bounds of worker pods
    to new clusters alone. The next deploy has the values' bounds again: change those too.

    Example: sentinel cluster scale --workers 2:6 --replicas 2:8
    """
    from ray_cluster.scale import Bounds, Wanted
    from ray_cluster.scale import scale as scale_service

    if workers is None and replicas is None:
        raise UsageError("nothing to scale: expected --workers MIN:MAX, --replicas MIN:MAX or both")
    wanted = Wanted(
        workers=None if workers is None else Bounds.parse(workers, "--workers"),
        replicas=None if replicas is None else Bounds.parse(replicas, "--replicas"),
        group=group,
        deployment=deployment,
    )
    done = scale_service(cluster_of(kubeconfig, context, namespace), name, wanted, force=force)
    if json:
        print_json(done)
    else:
        typer.echo(f"scaled: {', '.join(done.changed)}")


def logs(
    part: Annotated[Part, typer.Argument(help="Whose.")] = Part.ALL,
    deployment: Annotated[
        str | None,
        typer.Option(help="Serve's replicas of it, from their files, not what pods print."),
    ] = None,
    tail: Annotated[int, typer.Option(min=1, help="Last lines of each pod or replica.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with new lines of the pods until stopped.")
    ] = False,
    name: Name = "sentinel",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print logs of a service, each line after its pod's name.

    Example: sentinel cluster logs --deployment FraudRouter --tail 100
    """
    from ray_cluster.logs import pod_logs, replica_logs

    if deployment is not None and follow:
        raise UsageError("--follow reads what pods print, and --deployment files: expected one")
    cluster = cluster_of(kubeconfig, context, namespace)
    chosen = _pods_of(cluster, name, part)
    if deployment is not None:
        rays = [pod for pod in chosen if pod.cluster]
        lines = replica_logs(cluster, rays, deployment, tail)
    else:
        lines = pod_logs(cluster, chosen, tail, follow)
    try:
        for pod, line in lines:
            typer.echo(f"{pod}  {line}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _pods_of(cluster: "Cluster", name: str, part: Part) -> "Sequence[Pod]":
    from ray_cluster.rayservice import read_service
    from ray_cluster.release import live_service
    from ray_cluster.sightings import pods

    manifest = live_service(cluster, name)
    if manifest is None:
        raise ClusterError(f"no RayService {name} in namespace {cluster.namespace}")
    found = pods(cluster, read_service(manifest))
    chosen = [pod for pod in found if part is Part.ALL or pod.role == part]
    if not chosen:
        which = "" if part is Part.ALL else f"{part} "
        raise ClusterError(
            f"RayService {name} has no {which}pod: 'sentinel cluster status' says why"
        )
    return chosen
