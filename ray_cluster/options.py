"""Options that several commands of ``sentinel cluster`` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ray_cluster.api import Cluster

Name = Annotated[str, typer.Option(help="The RayService, which is the release's name.")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace.", show_default="the kubeconfig's"),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Kubeconfig.", show_default="KUBECONFIG, ~/.kube/config"),
]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig.", show_default="its current one")
]
Values = Annotated[
    list[Path] | None,
    typer.Option(
        "--values",
        "-f",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Values over the chart's own, which are a trial's; later files win.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One value, as helm takes it; wins over -f."),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also what Argo CD keeps, and fields that someone else has changed."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def cluster_of(kubeconfig: Path | None, context: str | None, namespace: str | None) -> "Cluster":
    """:raises CannotReach: no kubeconfig, or no such context in it."""
    from ray_cluster.api import connect  # a second's work, which 'sentinel --help' need not do

    return connect(None if kubeconfig is None else str(kubeconfig), context, namespace)
