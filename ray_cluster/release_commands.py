"""``sentinel cluster render``, ``deploy``, ``drift`` and ``rollback``: what a release is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ray_cluster.errors import ClusterError
from ray_cluster.options import (
    Context,
    Force,
    Json,
    Kubeconfig,
    Name,
    Namespace,
    Settings,
    Values,
    cluster_of,
)
from ray_cluster.render import Release, as_yaml, place
from ray_cluster.render import render as render_release
from sentinel.console import note, print_json, progress

if TYPE_CHECKING:
    from ray_cluster.api import Cluster
    from ray_cluster.drift import Drift
    from ray_cluster.release import Deployed

READY_S = 900.0
"""Seconds a wait may take: an image that must be pulled first takes minutes."""


def render(
    name: Name = "sentinel",
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Written into each object.", show_default="none"),
    ] = None,
    values: Values = None,
    settings: Settings = None,
) -> None:
    """Print the chart with its values as YAML: the RayService and all that belongs to it.

    Needs helm on PATH and no cluster.

    Example: sentinel cluster render -f production.yaml --namespace fraud
    """
    manifests = render_release(_release(name, namespace, values, settings))
    typer.echo(as_yaml(place(manifests, namespace) if namespace else manifests), nl=False)


def deploy(
    name: Name = "sentinel",
    namespace: Namespace = None,
    values: Values = None,
    settings: Settings = None,
    create_namespace: Annotated[
        bool, typer.Option("--create-namespace", help="Make the namespace if there is none.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--wait", help="Then wait until the service is healthy.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that --wait may take.")] = READY_S,
    force: Force = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Bring a release to a cluster, by server-side apply.

    Checks all of it before anything is applied: the chart's schema, Ray Serve's own for the Serve
    config, and a server-side dry run of every object.

    Example: sentinel cluster deploy -n fraud -f production.yaml --wait
    """
    from ray_cluster.needed_secrets import missing_secrets
    from ray_cluster.release import deploy as deploy_release
    from ray_cluster.wait import wait

    cluster = cluster_of(kubeconfig, context, namespace)
    manifests = render_release(_release(name, cluster.namespace, values, settings))
    if create_namespace:
        _make_namespace(cluster)
    with progress("checking") as step:
        done = deploy_release(cluster, manifests, force=force, on_object=step)
    for needed in missing_secrets(cluster, manifests):
        note(f"Secret {needed} is not in {cluster.namespace} yet: pods wait until someone makes it")
    if ready:
        wait(cluster, name, timeout, note)
    _report(done, "deployed", json)


def rollback(
    to: Annotated[
        int | None,
        typer.Option(metavar="REVISION", min=1, help="Which.", show_default="the one before"),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only say which revisions there are.")
    ] = False,
    name: Name = "sentinel",
    namespace: Namespace = None,
    force: Force = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Bring back an earlier release: every object of it, checked as a deploy is.

    Each deploy and scale makes a revision; the newest ten are kept in the cluster.

    Example: sentinel cluster rollback --to 3
    """
    from ray_cluster.release import roll_back
    from ray_cluster.revisions import revisions

    cluster = cluster_of(kubeconfig, context, namespace)
    if list_only:
        known = revisions(cluster, name)
        rows = [{"revision": r.number, "made": r.made, "by": r.note} for r in known]
        if json:
            print_json({"service": name, "revisions": rows})
        for row in [] if json else rows:
            typer.echo(f"{row['revision']:>4}  {row['made']}  {row['by']}")
        return
    with progress("checking") as step:
        done = roll_back(cluster, name, to, force=force, on_object=step)
    _report(done, "rolled back", json)


def drift(
    name: Name = "sentinel",
    namespace: Namespace = None,
    values: Values = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Say where what runs is not what was asked for; exit code 1 if it is not.

    Compares the live Ray cluster with the RayService, and the objects in the cluster with the
    release: with -f or --set as the chart renders it now, else as it was last deployed.

    Example: sentinel cluster drift -n fraud -f production.yaml
    """
    from ray_cluster.drift import cluster_drift, release_drift
    from ray_cluster.release import live_service
    from ray_cluster.revisions import revisions

    cluster = cluster_of(kubeconfig, context, namespace)
    service = live_service(cluster, name)
    if service is None:
        raise ClusterError(f"no RayService {name} in namespace {cluster.namespace}")
    found = cluster_drift(cluster, service)
    if values or settings:
        release = _release(name, cluster.namespace, values, settings)
        found += release_drift(cluster, render_release(release), "the chart")
    else:
        known = revisions(cluster, name)
        if not known:
            note("no revision of 'sentinel cluster deploy' to compare with; give the values (-f)")
        else:
            against = f"revision {known[-1].number}"
            found += release_drift(cluster, known[-1].manifests, against)
    _report_drift(found, name, json)
    if found:
        raise typer.Exit(1)


def _report_drift(found: "list[Drift]", name: str, json: bool) -> None:
    if json:
        print_json({"service": name, "drift": found})
        return
    for each in found:
        typer.echo(f"{each.object} is not as {each.against} says:")
        for difference in each.differences:
            typer.echo(f"  {difference}")
    if found:
        note("'sentinel cluster scale' brings bounds to a live cluster, 'deploy' takes edits back")
    else:
        typer.echo("no drift")


def _report(done: "Deployed", what: str, json: bool) -> None:
    if json:
        print_json(done)
        return
    typer.echo(
        f"{what}: {done.service} in {done.namespace}, {len(done.applied)} objects, "
        f"revision {done.revision}"
    )
    for made in done.made:
        typer.echo(f"  made: {made}")
    for gone in done.removed:
        typer.echo(f"  removed: {gone}")


def _make_namespace(cluster: "Cluster") -> None:
    name = cluster.namespace
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _release(
    name: str, namespace: str | None, values: list[Path] | None, settings: list[str] | None
) -> Release:
    return Release(name, namespace, tuple(values or ()), tuple(settings or ()))
