"""Waiting until a RayService is well, and saying what is in the way, meanwhile and in the end."""

import time
from collections.abc import Callable

import msgspec

from ray_cluster.api import Cluster
from ray_cluster.errors import CannotReach, ClusterError, NotReady
from ray_cluster.explain import explain
from ray_cluster.health import GIVEN_UP, Word, health
from ray_cluster.objects import ray_service
from ray_cluster.rayservice import RayService, read_service
from ray_cluster.sightings import pods, warnings
from ray_cluster.watch import Sight, follow

OnNews = Callable[[str], None]


class Ready(msgspec.Struct, frozen=True):
    """The end of a wait. ``seconds`` it took; ``reason`` is the health's sentence."""

    service: str
    namespace: str
    health: str
    reason: str
    seconds: float


def wait(cluster: Cluster, name: str, timeout_s: float, on_news: OnNews = lambda _: None) -> Ready:
    """Until the RayService is healthy: its newest change seen by the operator, no upgrade under
    way, every application running. ``on_news`` gets a sentence whenever the reason changes.

    :raises NotReady: not within ``timeout_s``, or the operator has given up; says what is seen.
    :raises ClusterError: there is no such RayService.
    """
    began = time.monotonic()
    told = ""
    for sight in follow(cluster, ray_service(name, cluster.namespace)):
        waited = time.monotonic() - began
        service = _service(cluster, name, sight)
        now = health(service)
        news = sight.unreachable or f"{now.word}: {now.reason}"
        if news != told:
            on_news(news)
            told = news
        if now.word is Word.HEALTHY and not sight.unreachable:
            return Ready(name, cluster.namespace, now.word, now.reason, round(waited, 1))
        if waited >= timeout_s or _given_up(service):
            what = f"RayService {name} is {now.word}"
            raise NotReady(what, waited, _reasons(cluster, service, sight, waited))
    raise AssertionError("following never ends by itself")


def _service(cluster: Cluster, name: str, sight: Sight) -> RayService:
    if sight.manifest is not None:
        return read_service(sight.manifest)
    if sight.unreachable:
        raise CannotReach(sight.unreachable)
    missing = f"no RayService {name} in namespace {cluster.namespace}"
    raise ClusterError(f"{missing}: 'sentinel cluster deploy' makes one")


def _given_up(service: RayService) -> bool:
    seen = (service.status.observed_generation or 0) >= service.metadata.generation
    return seen and any(condition.reason in GIVEN_UP for condition in service.status.conditions)


def _reasons(cluster: Cluster, service: RayService, sight: Sight, waited_s: float) -> list[str]:
    if sight.unreachable:
        return [sight.unreachable]
    try:
        around = pods(cluster, service)
        said = warnings(cluster, service, around)
    except ClusterError as error:
        return [*explain(service, [], [], waited_s), f"(pods and events cannot be read: {error})"]
    return explain(service, around, said, waited_s)
