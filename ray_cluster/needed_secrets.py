"""Secrets that a release refers to and does not hold: pods that lack one only wait."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.errors import RefusedByCluster
from ray_cluster.objects import Manifest, Ref


class Needed(msgspec.Struct, frozen=True, order=True):
    """``key`` is "" where the whole Secret is meant."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name} (key {self.key})" if self.key else self.name


def missing_secrets(cluster: Cluster, manifests: Iterable[Manifest]) -> list[Needed]:
    """Those that are neither in the release nor in the cluster, in order. None where the account
    may not read Secrets: then nobody here can tell."""
    manifests = list(manifests)
    brought = {m["metadata"]["name"] for m in manifests if m["kind"] == "Secret"}
    missing = []
    for needed in sorted({each for m in manifests for each in _references(m)}):
        if needed.name in brought:
            continue
        try:
            found = cluster.get(Ref("v1", "Secret", needed.name))
        except RefusedByCluster:
            return []
        if found is None or (needed.key and needed.key not in (found.get("data") or {})):
            missing.append(needed)
    return missing


def is_made(needed: Needed, manifests: Iterable[Manifest]) -> bool:
    """Whether a deploy makes it: the password of a Redis that the release itself brings, which
    nobody else knows."""
    brings = any(m["kind"] == "StatefulSet" and _asks_for(m, needed) for m in manifests)
    return brings and needed.key == "password"


def make_passwords(cluster: Cluster, manifests: Sequence[Manifest]) -> list[Needed]:
    """Random ones, for what the release itself brings and what is not there yet."""
    made = [each for each in missing_secrets(cluster, manifests) if is_made(each, manifests)]
    for needed in made:
        secret: Manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": needed.name}}
        cluster.create(secret | {"stringData": {needed.key: secrets.token_urlsafe(24)}})
    return made


def _asks_for(manifest: Manifest, needed: Needed) -> bool:
    return needed in set(_references(manifest))


def _references(content: Any) -> Iterator[Needed]:
    """Wherever they stand: in environments, volumes, and the RayService's own options."""
    if isinstance(content, list):
        for each in content:
            yield from _references(each)
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if isinstance(value, Mapping) and not value.get("optional"):
            if key == "secretKeyRef":
                yield Needed(value["name"], value["key"])
            elif key == "secretRef" and "name" in value:
                yield Needed(value["name"], "")
            elif key == "secret" and "secretName" in value:
                items = value.get("items") or [{"key": ""}]
                yield from (Needed(value["secretName"], item["key"]) for item in items)
        yield from _references(value)
