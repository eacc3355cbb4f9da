"""Bounds of worker pods and of Serve's replicas, changed where they count.

KubeRay ignores a changed minimum or maximum in a RayService that runs: it neither makes a new
cluster for it nor edits the live one. So both are patched. Serve's own bounds are in
``serveConfigV2``, which the operator hands to the running cluster at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import yaml

from ray_cluster.api import Cluster
from ray_cluster.argo import refuse_if_tracked
from ray_cluster.errors import ClusterError
from ray_cluster.objects import RAY, Manifest, Ref, ray_service
from ray_cluster.rayservice import RayClusterSpec, WorkerGroup, read_cluster, read_service
from ray_cluster.release import live_service
from ray_cluster.render import as_yaml
from ray_cluster.revisions import record, revisions
from ray_cluster.serve_check import check_serve_config
from sentinel.errors import UsageError

Operation = dict[str, Any]


class Bounds(NamedTuple):
    """The fewest and the most, both included."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str, option: str) -> "Bounds":
        """From ``2:6``.

        :raises UsageError: no two whole numbers, or in the wrong order.
        """
        low, colon, high = text.partition(":")
        if not (colon and low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
            raise UsageError(f"{option} is {text!r}; expected MIN:MAX, such as 2:6")
        return cls(int(low), int(high))

    def __str__(self) -> str:
        return f"{self.low}:{self.high}"


class Wanted(msgspec.Struct, frozen=True):
    """What to change; None leaves it. Without ``group`` it is the only worker group, without
    ``deployment`` every one that scales by itself."""

    workers: Bounds | None = None
    replicas: Bounds | None = None
    group: str | None = None
    deployment: str | None = None


class Scaled(msgspec.Struct, frozen=True):
    """What ``scale`` changed: the objects, in order."""

    service: str
    namespace: str
    changed: list[str]
    revision: int | None


def scale(cluster: Cluster, name: str, wanted: Wanted, *, force: bool = False) -> Scaled:
    """Changes the RayService, and the Ray clusters that live from it.

    :raises KeptByArgo: Argo CD keeps the RayService (unless ``force``).
    :raises ClusterError: no such RayService, worker group or deployment.
    """
    manifest = live_service(cluster, name)
    if manifest is None:
        raise ClusterError(f"no RayService {name} in namespace {cluster.namespace}")
    refuse_if_tracked(manifest, "scale", _as_values(wanted), force)
    operations = service_operations(manifest, wanted)
    ref = ray_service(name, cluster.namespace)
    cluster.patch(ref, operations)
    changed = [str(ref)]
    if wanted.workers is not None:
        for live in _live_clusters(cluster, manifest):
            spec = read_cluster(live).spec
            cluster.patch(Ref.of(live), _bounds_of_group(spec, wanted, "/spec"))
            changed.append(str(Ref.of(live)))
    return Scaled(name, cluster.namespace, changed, _note_revision(cluster, name, wanted))


def service_operations(manifest: Manifest, wanted: Wanted) -> list[Operation]:
    """The JSON patch of a RayService that brings what is wanted."""
    spec = read_service(manifest).spec
    operations = []
    if wanted.workers is not None:
        place = "/spec/rayClusterConfig"
        operations += _bounds_of_group(spec.ray_cluster_config, wanted, place)
    if wanted.replicas is not None:
        text = with_replicas(spec.serve_config, wanted.replicas, wanted.deployment)
        check_serve_config(text)
        operations += [
            {"op": "test", "path": "/spec/serveConfigV2", "value": spec.serve_config},
            {"op": "replace", "path": "/spec/serveConfigV2", "value": text},
        ]
    return operations


def _bounds_of_group(spec: RayClusterSpec, wanted: Wanted, place: str) -> list[Operation]:
    assert wanted.workers is not None
    at = _index_of(spec.worker_group_specs, wanted.group)
    path = f"{place}/workerGroupSpecs/{at}"
    name = spec.worker_group_specs[at].group_name
    return [
        {"op": "test", "path": f"{path}/groupName", "value": name},
        {"op": "add", "path": f"{path}/minReplicas", "value": wanted.workers.low},
        {"op": "add", "path": f"{path}/maxReplicas", "value": wanted.workers.high},
    ]


def _index_of(groups: Sequence[WorkerGroup], name: str | None) -> int:
    names = [group.group_name for group in groups]
    if name is None and len(names) == 1:
        return 0
    if name not in names:
        wanted = "--group is needed" if name is None else f"no worker group {name!r}"
        raise ClusterError(f"{wanted}; this service has {', '.join(names) or 'none'}")
    return names.index(name)


def with_replicas(serve_config: str, bounds: Bounds, deployment: str | None) -> str:
    """The Serve config with other bounds for this deployment, or for all that scale.

    :raises ClusterError: no such deployment, or it does not scale by itself.
    """
    if bounds.low == 0:
        raise UsageError(f"--replicas is {bounds}; expected 1 at least: no replica, no answers")
    content = yaml.safe_load(serve_config)
    scaling = {}
    for application in content["applications"]:
        for each in application.get("deployments") or []:
            if isinstance(each.get("autoscaling_config"), dict):
                # A copy: in YAML, several may share one by an alias.
                each["autoscaling_config"] = dict(each["autoscaling_config"])
                scaling[each["name"]] = each["autoscaling_config"]
    if deployment is not None and deployment not in scaling:
        have = ", ".join(scaling) or "none"
        raise ClusterError(f"no deployment {deployment!r} that scales by itself; those are {have}")
    for name in [deployment] if deployment is not None else list(scaling):
        scaling[name].update(min_replicas=bounds.low, max_replicas=bounds.high)
    return as_yaml([content]).removeprefix("---\n")


def _live_clusters(cluster: Cluster, manifest: Manifest) -> list[Manifest]:
    status = read_service(manifest).status
    names = [
        s.ray_cluster_name for s in (status.active_service_status, status.pending_service_status)
    ]
    refs = [
        Ref(RAY, "RayCluster", name, cluster.namespace) for name in dict.fromkeys(names) if name
    ]
    return [live for live in map(cluster.get, refs) if live is not None]


def _note_revision(cluster: Cluster, name: str, wanted: Wanted) -> int | None:
    """A rollback afterwards must not lose what was scaled, nor drift report it: the newest release
    with the new bounds is a revision of its own. None where nothing was deployed by ``deploy``."""
    known = revisions(cluster, name)
    if not known:
        return None
    manifests = [_scaled(manifest, name, wanted) for manifest in known[-1].manifests]
    return record(cluster, name, manifests, f"scale {_in_words(wanted)}")


def _scaled(manifest: Manifest, name: str, wanted: Wanted) -> Manifest:
    if (manifest["kind"], manifest["metadata"]["name"]) != ("RayService", name):
        return manifest
    changed: Manifest = msgspec.json.decode(msgspec.json.encode(manifest))
    for operation in service_operations(manifest, wanted):
        if operation["op"] != "test":
            _set(changed, operation["path"], operation["value"])
    return changed


def _set(manifest: Manifest, path: str, value: Any) -> None:
    *parents, last = path.strip("/").split("/")
    at: Any = manifest
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    at[last] = value


def _in_words(wanted: Wanted) -> str:
    parts: Mapping[str, object] = {
        "workers": wanted.workers,
        "group": wanted.group,
        "replicas": wanted.replicas,
        "deployment": wanted.deployment,
    }
    return " ".join(f"--{key} {value}" for key, value in parts.items() if value is not None)


def _as_values(wanted: Wanted) -> str:
    """The same change in the chart's values."""
    lines = []
    if wanted.workers is not None:
        low, high = wanted.workers
        lines.append(f"workers: {{minReplicas: {low}, maxReplicas: {high}}}")
    if wanted.replicas is not None:
        low, high = wanted.replicas
        name = wanted.deployment or "DEPLOYMENT"
        bounds = f"{{minReplicas: {low}, maxReplicas: {high}}}"
        lines.append(f"serve: {{deployments: {{{name}: {bounds}}}}}")
    return "\n".join(lines)
