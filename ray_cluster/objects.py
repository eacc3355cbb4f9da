"""Kubernetes objects as this package passes them: a manifest, and a reference to one.

A manifest is the object as JSON has it: its hundreds of kinds have no types here. What of a
RayService is read by name has (``rayservice.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

Manifest: TypeAlias = dict[str, Any]

RAY = "ray.io/v1"


class Ref(msgspec.Struct, frozen=True, order=True):
    """Which object. ``namespace`` is None where it is not known, or the kind has none."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Ref":
        """:raises KeyError: it has no apiVersion, kind or name."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace")
        return cls(manifest["apiVersion"], manifest["kind"], metadata["name"], namespace)

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{place}"


def ray_service(name: str, namespace: str) -> Ref:
    """The reference of this RayService."""
    return Ref(RAY, "RayService", name, namespace)


def ray_services(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Those among them that are RayServices."""
    return [m for m in manifests if (m["kind"], m["apiVersion"]) == ("RayService", RAY)]


def annotation(manifest: Mapping[str, Any], name: str) -> str | None:
    """The value of an annotation, None where there is none."""
    value = (manifest.get("metadata", {}).get("annotations") or {}).get(name)
    return None if value is None else str(value)


# Others need these to be there first. Helm installs in a like order.
FIRST = (
    "Namespace",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
)


def in_order(manifests: Sequence[Manifest]) -> list[Manifest]:
    """In the order to apply them: what pods need before what makes pods, the RayService last."""

    def place(manifest: Manifest) -> int:
        kind = manifest["kind"]
        if kind == "RayService":
            return len(FIRST) + 1
        return FIRST.index(kind) if kind in FIRST else len(FIRST)

    return sorted(manifests, key=place)
