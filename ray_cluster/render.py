"""The chart, rendered by helm: what a release is, before any cluster has seen it."""

import shutil
import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec
import yaml

from ray_cluster.errors import CannotRender
from ray_cluster.objects import Manifest, Ref

RENDER_S = 60.0

CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "Namespace", "PriorityClass")
"""Kinds that live in no namespace."""


class Release(msgspec.Struct, frozen=True):
    """What is laid over the chart's own values, which are a trial's. ``values`` are files, later
    ones win; ``settings`` are helm's ``key=value``, and win over files. Without ``namespace``
    nothing names one."""

    name: str = "sentinel"
    namespace: str | None = None
    values: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    chart: Path | None = None


def render(release: Release) -> list[Manifest]:
    """The objects of this release, checked by the chart's schema and its own refusals.

    :raises CannotRender: no helm, or it refuses the values; says which and why.
    """
    return parse(_helm(release), "helm's output")


def _helm(release: Release) -> str:
    helm = shutil.which("helm")
    if helm is None:
        raise CannotRender("no helm on PATH: the chart is rendered by Helm 3 or 4")
    with resources.as_file(resources.files("ray_cluster") / "chart") as packaged:
        command = [helm, "template", release.name, str(release.chart or packaged)]
        command += [word for file in release.values for word in ("--values", str(file))]
        command += [word for setting in release.settings for word in ("--set", setting)]
        if release.namespace:
            command += ["--namespace", release.namespace]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=RENDER_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CannotRender(f"helm did not end within {RENDER_S:g} s") from error
    if done.returncode != 0:
        raise CannotRender(f"the chart refuses these values: {_said(done.stderr)}")
    return done.stdout


def parse(text: str, origin: str) -> list[Manifest]:
    """The manifests of a YAML stream; empty documents are left out.

    :raises CannotRender: no YAML, or a document that is no object with kind and name.
    """
    try:
        documents = [d for d in yaml.load_all(text, _Loader) if d is not None]
    except yaml.YAMLError as error:
        raise CannotRender(f"{origin} is no YAML: {' '.join(str(error).split())}") from error
    for document in documents:
        try:
            Ref.of(document)
        except (KeyError, TypeError) as error:
            start = " ".join(str(document).split())[:80]
            raise CannotRender(
                f"{origin}: {start!r} is no Kubernetes object: expected apiVersion, kind and "
                "metadata.name"
            ) from error
    return documents


def place(manifests: Sequence[Manifest], namespace: str) -> list[Manifest]:
    """The same with this namespace written in, so that each stands for itself."""
    return [
        m
        if m["kind"] in CLUSTER_WIDE
        else m | {"metadata": m["metadata"] | {"namespace": namespace}}
        for m in manifests
    ]


def as_yaml(manifests: Sequence[Manifest]) -> str:
    """A YAML stream; strings of several lines stay readable."""
    documents: str = yaml.dump_all(
        manifests, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=10_000
    )
    return documents


def _said(text: str) -> str:
    """helm's own words without its "Error: " and the advice on --debug."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Use --debug", "WARNING", "level="))]
    return "\n  ".join(kept).removeprefix("Error: ")


# Where libyaml is there, a third of a second is saved on a chart with a dashboard in it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
