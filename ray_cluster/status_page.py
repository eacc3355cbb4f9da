"""A service's status as a page for a person; on a terminal in colour."""

import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ray_cluster.status import Deployment, Status

COLOURS = {
    "Healthy": "green",
    "HEALTHY": "green",
    "RUNNING": "green",
    "Running": "green",
    "Progressing": "yellow",
    "Degraded": "bold red",
    "DEPLOY_FAILED": "bold red",
    "UNHEALTHY": "bold red",
    "Failed": "bold red",
}


def show(status: Status) -> None:
    """The page, on standard output."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(page(status))


def page(status: Status) -> RenderableType:
    """Versions, upgrade, applications, workers, pods, warnings; parts with nothing in them go."""
    parts = [
        _head(status),
        _applications(status),
        _workers(status),
        _pods(status),
        _warnings(status),
    ]
    notes = [Text(f"not known: {line}", style="dim") for line in status.unknown]
    return Group(*[part for part in parts if part is not None], *notes)


def _word(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))


def _head(status: Status) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    title = Text.assemble((status.service, "bold"), f" in {status.namespace}  ")
    grid.add_row(title.append_text(_word(status.health)), status.reason)
    versions = status.versions
    grid.add_row("image", ", ".join(versions.images))
    grid.add_row("Ray", versions.ray)
    grid.add_row("release", _release(status))
    grid.add_row("upgrade", _upgrade(status))
    return grid


def _release(status: Status) -> str:
    versions = status.versions
    said = [versions.chart or "no chart's label"]
    if versions.argo_application:
        said.append(f"kept by Argo CD's application {versions.argo_application}")
    if versions.revision is not None:
        said.append(f"revision {versions.revision} ({versions.revision_note})")
    return ", ".join(said)


def _upgrade(status: Status) -> str:
    upgrade = status.upgrade
    if not upgrade.to:
        return f"none under way ({upgrade.strategy}); {upgrade.active or 'no cluster'} is active"
    shares = [
        f"{share}% {of}"
        for share, of in (
            (upgrade.traffic_to_new, "of the traffic"),
            (upgrade.capacity_of_new, "of the capacity"),
        )
        if share is not None
    ]
    return f"from {upgrade.active or 'nothing'} to {upgrade.to}" + (
        f": {', '.join(shares)}" if shares else ""
    )


def _table(title: str, columns: Sequence[str]) -> Table:
    drawn = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None)
    for column in columns:
        drawn.add_column(column, header_style="dim", overflow="fold")
    return drawn


def _applications(status: Status) -> Table | None:
    if not status.applications:
        return None
    drawn = _table("applications", ["", "status", "replicas", "cluster", ""])
    for application in status.applications:
        name = Text(application.name, style="bold")
        said = _line(application.message)
        drawn.add_row(name, _word(application.status), "", application.cluster, said)
        for each in application.deployments:
            message = "" if each.status == "HEALTHY" else _line(each.message)
            drawn.add_row(f"  {each.name}", _word(each.status), _replicas(each), "", message)
    return drawn


def _replicas(deployment: Deployment) -> str:
    if deployment.running is None or deployment.target is None:
        return "?"
    return f"{deployment.running} of {deployment.target}"


def _line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _workers(status: Status) -> Table | None:
    if not status.groups:
        return None
    drawn = _table("workers", ["", "ready", "wanted", "bounds", "cluster"])
    for group in status.groups:
        bounds = f"{group.low} to {group.high}"
        drawn.add_row(group.name, str(group.ready), str(group.wanted), bounds, group.cluster)
    return drawn


def _pods(status: Status) -> Table | None:
    if not status.pods:
        return None
    drawn = _table("pods", ["", "role", "phase", "ready", "restarts", "node", ""])
    for pod in status.pods:
        ready = "yes" if pod.ready else "no"
        counted = (ready, str(pod.restarts), pod.node, pod.trouble)
        drawn.add_row(pod.name, pod.role, _word(pod.phase), *counted)
    return drawn


def _warnings(status: Status) -> Table | None:
    if not status.warnings:
        return None
    drawn = _table("last warnings", ["", "", "", ""])
    for each in status.warnings:
        times = f"{each.count} x" if each.count > 1 else ""
        drawn.add_row(each.at, each.object, times, f"{each.reason}: {each.message}")
    return drawn
