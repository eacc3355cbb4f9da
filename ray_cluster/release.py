"""A release brought to a cluster: deployed, or brought back. Nothing is applied until all of it has
been checked."""

from collections.abc import Sequence

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.apply import OnObject, apply_all, check_all
from ray_cluster.argo import refuse_if_tracked
from ray_cluster.errors import CannotRender
from ray_cluster.needed_secrets import make_passwords
from ray_cluster.objects import Manifest, Ref, ray_service, ray_services
from ray_cluster.revisions import choose, leftovers, record, revisions
from ray_cluster.serve_check import check_service


class Deployed(msgspec.Struct, frozen=True):
    """What a deploy or rollback did. ``service`` is the RayService's name."""

    service: str
    namespace: str
    revision: int
    applied: list[str]
    removed: list[str]
    made: list[str]


def deploy(
    cluster: Cluster,
    manifests: Sequence[Manifest],
    *,
    force: bool = False,
    on_object: OnObject = lambda _: None,
) -> Deployed:
    """These objects in the cluster's namespace, each by server-side apply; objects that the release
    before had and this one has no more are removed.

    :raises KeptByArgo: Argo CD keeps the RayService (unless ``force``).
    :raises ClusterError: what the check refuses; then nothing has been changed.
    """
    service = the_service(manifests)
    name = service["metadata"]["name"]
    commit = "the values that this deploy was given (-f, --set)"
    refuse_if_tracked(live_service(cluster, name), "deploy", commit, force)
    return _bring(cluster, manifests, name, "deploy", force=force, on_object=on_object)


def roll_back(
    cluster: Cluster,
    name: str,
    number: int | None,
    *,
    force: bool = False,
    on_object: OnObject = lambda _: None,
) -> Deployed:
    """The release as it was at revision ``number``, by default the one before the newest; it is
    then the newest revision itself.

    :raises KeptByArgo: Argo CD keeps the RayService (unless ``force``).
    :raises ClusterError: no such revision, or the check refuses it.
    """
    commit = "git revert COMMIT   # the one that brought what is to go"
    refuse_if_tracked(live_service(cluster, name), "rollback", commit, force)
    chosen = choose(revisions(cluster, name), name, number)
    note = f"rollback to {chosen.number}"
    return _bring(cluster, chosen.manifests, name, note, force=force, on_object=on_object)


def _bring(
    cluster: Cluster,
    manifests: Sequence[Manifest],
    name: str,
    note: str,
    *,
    force: bool,
    on_object: OnObject,
) -> Deployed:
    for service in ray_services(manifests):
        check_service(service)
    check_all(cluster, manifests, force=force)
    made = make_passwords(cluster, manifests)
    before = revisions(cluster, name)
    apply_all(cluster, manifests, force=force, on_object=on_object)
    gone = leftovers(before[-1].manifests, manifests) if before else []
    for ref in gone:
        cluster.delete(ref)
    revision = record(cluster, name, manifests, note)
    applied = [str(Ref.of(m)) for m in manifests]
    return Deployed(
        name,
        cluster.namespace,
        revision,
        applied,
        removed=[str(ref) for ref in gone],
        made=[f"Secret {needed}, with a random password" for needed in made],
    )


def the_service(manifests: Sequence[Manifest]) -> Manifest:
    """The RayService of a release.

    :raises CannotRender: there is none, or more than one.
    """
    found = ray_services(manifests)
    if len(found) != 1:
        raise CannotRender(f"the release holds {len(found)} RayServices, expected one")
    return found[0]


def live_service(cluster: Cluster, name: str) -> Manifest | None:
    """The RayService as the cluster has it."""
    return cluster.get(ray_service(name, cluster.namespace))
