"""``sentinel cluster promote``, and what pods do around a sync of Argo CD: ``check``, ``smoke``,
``bounds``."""

from pathlib import Path
from typing import Annotated

import typer

from ray_cluster.options import Context, Json, Kubeconfig, Name, Namespace, cluster_of
from sentinel.console import note, print_json

VALUES = Path("ray_cluster/argocd/values/production.yaml")
"""What the application ``sentinel`` of ``argocd/apps`` reads."""

Digest = Annotated[
    str, typer.Option(metavar="SHA256", help="The model version that the commit says.")
]


def promote(
    bundle: Annotated[str, typer.Option(metavar="URI", help="The bundle to bring in.")],
    values: Annotated[
        Path, typer.Option(metavar="FILE", help="The values that Argo CD reads.")
    ] = VALUES,
    branch: Annotated[
        str | None, typer.Option(help="The new branch.", show_default="promote/VERSION")
    ] = None,
    json: Json = False,
) -> None:
    """Write the commit that brings a bundle to the cluster, on a branch of its own.

    Merged, it is what Argo CD deploys; reverted, the bundle before comes back. Its message has the
    model card's figures.

    Example: sentinel cluster promote --bundle s3://models/transactions-2026-11-30
    """
    from ray_cluster.promote import promote as write_commit

    if "://" not in bundle:
        note(f"{bundle} is a plain path: pods must have it at the same place")
    done = write_commit(bundle, values, branch)
    if json:
        print_json(done)
        return
    typer.echo(f"{done.message}\n{done.file}: commit {done.commit[:12]} on branch {done.branch}")
    note(f"next: git push origin {done.branch}, have it reviewed and merged")


def check(
    bundle: Annotated[str, typer.Option(metavar="URI", help="The bundle to be served.")],
    digest: Digest = "",
    serve_config: Annotated[
        str,
        typer.Option(
            envvar="SENTINEL_SERVE_CONFIG", metavar="YAML", help="The RayService's serveConfigV2."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Whether a commit may reach the cluster; Argo CD asks before each sync (PreSync).

    Loads the bundle as a replica would, and holds the Serve config against Ray's own schema.

    Example: sentinel cluster check --bundle s3://models/t --digest 5845f9… …
    """
    from ray_cluster.presync import check_commit

    checked = check_commit(bundle, digest, serve_config)
    if json:
        print_json(checked)
    else:
        typer.echo(
            f"{checked.bundle}: version {checked.digest}, dataset {checked.dataset}, "
            f"{checked.features} features; the Serve config is Ray's"
        )


def smoke(
    url: Annotated[str, typer.Option(help="The service, such as http://sentinel-serve-svc:8000.")],
    digest: Digest,
    key: Annotated[
        str,
        typer.Option(
            envvar="SENTINEL_SMOKE_KEY",
            metavar="KEY",
            help="An API key with the scopes score and read, where the service asks for one.",
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 120,
    json: Json = False,
) -> None:
    """Whether the service answers by the new bundle; Argo CD asks after each sync (PostSync).

    Posts the example of the service's own API description, under ids and entities of its own.

    Example: sentinel cluster smoke --url http://localhost:8000 --digest 5845f9…
    """
    from ray_cluster.smoke import smoke as ask

    done = ask(url.rstrip("/"), digest, key=key.strip(), patience_s=timeout)
    if json:
        print_json(done)
    else:
        typer.echo(
            f"{url} answers by {done.digest}: {done.answers} answers in a row, "
            f"after {done.seconds:g} s"
        )


def bounds(
    name: Name = "sentinel",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    json: Json = False,
) -> None:
    """Bring a RayService's bounds of worker pods to its live clusters (PostSync).

    KubeRay ignores a change of minReplicas and maxReplicas alone. For a change by hand see 'scale'.

    Example: sentinel cluster bounds -n fraud
    """
    from ray_cluster.bounds import bring_bounds

    done = bring_bounds(cluster_of(kubeconfig, context, namespace), name)
    if json:
        print_json(done)
        return
    for line in done.changed:
        typer.echo(line)
    if not done.changed:
        typer.echo("the live clusters have the RayService's bounds")
