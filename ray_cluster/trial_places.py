"""Where a trial runs: kind, minikube, or a cluster that someone else made; and how an image gets
there."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ray_cluster.errors import CannotReach, ClusterError
from sentinel.console import note

KIND_NAME = "sentinel"
"""The kind cluster that ``make cluster-up`` makes where there is no kubeconfig, and removes."""


class Place(msgspec.Struct, frozen=True):
    """``sort`` is kind, minikube or other; ``name`` is kind's or minikube's own name of it."""

    sort: str
    name: str

    @classmethod
    def of(cls, context: str) -> "Place":
        """By the names that kind and minikube give to contexts."""
        if context.startswith("kind-"):
            return cls("kind", context.removeprefix("kind-"))
        return cls("minikube" if context == "minikube" else "other", context)


def run(command: Sequence[str], doing: str) -> None:
    """Runs a tool; what it prints goes to standard error.

    :raises ClusterError: it is not there, or failed.
    """
    note(f"{doing}: {' '.join(command)}")
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{doing}: no {command[0]} on PATH") from error
    if done.returncode:
        raise ClusterError(f"{doing}: {command[0]} failed with exit code {done.returncode}")


def find_or_make(context: str | None) -> tuple[Place, str | None]:
    """The place, and the context to use; without any kubeconfig, a new cluster by kind.

    :raises CannotReach: no kubeconfig, and no kind to make a cluster with.
    """
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        _, active = config.list_kube_config_contexts()
        return Place.of(context or active["name"]), context
    except ConfigException as error:
        if shutil.which("kind") is None:
            raise CannotReach(
                "no cluster: expected a kubeconfig (KUBECONFIG or ~/.kube/config), or kind on PATH "
                "to make one with"
            ) from error
    run(["kind", "create", "cluster", "--name", KIND_NAME], "making a cluster")
    return Place("kind", KIND_NAME), f"kind-{KIND_NAME}"


def engine() -> str:
    """podman or docker, whichever is there.

    :raises ClusterError: neither is.
    """
    for name in ("podman", "docker"):
        if shutil.which(name):
            return name
    raise ClusterError("no podman or docker on PATH to build an image with; or give IMAGE=…")


def is_here(image: str) -> bool:
    """Whether this machine's podman or docker has the image."""
    for name in filter(shutil.which, ("podman", "docker")):
        asked = [name, "image", "inspect", image]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return True
    return False


def load(image: str, place: Place, loader: str | None) -> None:
    """Brings an image of this machine to the cluster's nodes. ``loader`` is a program that does it,
    given the image's name, for places that are neither kind nor minikube.

    :raises ClusterError: no way there is known, or it failed.
    """
    if loader is not None:
        run([*loader.split(), image], "loading the image")
        return
    if place.sort == "other":
        raise ClusterError(
            f"cluster {place.name} is neither kind's nor minikube's: how should {image} get to its "
            "nodes? Push it to a registry and give IMAGE=…, or give LOAD='PROGRAM' that takes it"
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "image.tar")
        run([engine(), "save", "-o", archive, image], "saving the image")
        load_archive = {
            "kind": ["kind", "load", "image-archive", archive, "--name", place.name],
            "minikube": ["minikube", "-p", place.name, "image", "load", archive],
        }
        run(load_archive[place.sort], "loading the image")
