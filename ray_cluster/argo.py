"""What Argo CD keeps is changed in Git: a change by hand is undone within a second."""

from ray_cluster.errors import KeptByArgo
from ray_cluster.objects import Manifest, Ref, annotation

TRACKING = "argocd.argoproj.io/tracking-id"
"""Argo CD's annotation on each object that it keeps: ``application:group/kind:namespace/name``."""


def tracked_by(manifest: Manifest) -> str | None:
    """The Argo CD application that keeps this object, None where none does."""
    tracking = annotation(manifest, TRACKING)
    return tracking.partition(":")[0] if tracking else None


def refuse_if_tracked(manifest: Manifest | None, command: str, commit: str, force: bool) -> None:
    """``commit`` is what to change in Git instead, as lines.

    :raises KeptByArgo: Argo CD keeps it, and nobody insisted.
    """
    application = tracked_by(manifest) if manifest is not None else None
    if manifest is None or application is None or force:
        return
    lines = "".join(f"\n  {line}" for line in commit.splitlines())
    raise KeptByArgo(
        f"{Ref.of(manifest)} is kept by Argo CD's application {application}, which would undo "
        f"'sentinel cluster {command}' at once. Commit instead, where that application reads its "
        f"values:{lines}\n(--force does it all the same)"
    )
