"""Status, waiting and following, with statuses set by hand on a real API server."""

import threading
import time
from collections.abc import Iterator

import pytest

from ray_cluster.api import Cluster
from ray_cluster.errors import ClusterError, NotReady
from ray_cluster.objects import Manifest, ray_service
from ray_cluster.release import deploy
from ray_cluster.status import status
from ray_cluster.status_page import page
from ray_cluster.wait import wait
from ray_cluster.watch import Sight, follow
from tests.cluster.kube import (
    api_server_down,
    edit,
    eventually,
    make_ray_cluster,
    set_status,
    status_of,
    why_no_restart,
)


@pytest.fixture
def deployed(cluster: Cluster, trial: list[Manifest]) -> Cluster:
    """The namespace with the trial in it, and no operator that has looked at it."""
    deploy(cluster, trial)
    return cluster


def say(cluster: Cluster, said: Manifest) -> None:
    set_status(cluster, ray_service("sentinel", cluster.namespace), said)


def worker_pod(cluster: Cluster, image: str = "localhost/sentinelstream:none") -> None:
    """A pod of the live Ray cluster; on a cluster without nodes it stays pending."""
    labels = {"ray.io/cluster": "sentinel-live", "ray.io/node-type": "worker"}
    asks = {"requests": {"cpu": "1000"}}
    container = {"name": "ray-worker", "image": image, "resources": asks}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "sentinel-live-worker", "labels": labels},
            # The release's own account: a new namespace has its default one a moment later.
            "spec": {"containers": [container], "serviceAccountName": "sentinel-worker"},
        }
    )


def test_a_status_that_turns_well_ends_the_wait(deployed: Cluster) -> None:
    news: list[str] = []

    def operator() -> None:
        eventually(lambda: news, 30, "the wait has begun")
        say(deployed, status_of(deployed, ready="False", reason="Initializing"))
        eventually(lambda: len(news) > 1, 30, "the wait has told of it")
        say(deployed, status_of(deployed))

    by_hand = threading.Thread(target=operator)
    by_hand.start()
    done = wait(deployed, "sentinel", 60, news.append)
    by_hand.join()
    assert done.health == "Healthy"
    assert "no operator has looked at it yet" in news[0]


def test_a_wait_does_not_take_the_status_of_an_older_change(deployed: Cluster) -> None:
    say(deployed, status_of(deployed))
    ref = ray_service("sentinel", deployed.namespace)
    change = {"op": "replace", "path": "/spec/rayClusterDeletionDelaySeconds", "value": 99}
    edit(deployed, ref, [change], "kubectl-edit")
    with pytest.raises(NotReady, match="Progressing"):
        wait(deployed, "sentinel", 1)
    say(deployed, status_of(deployed))
    assert wait(deployed, "sentinel", 30).health == "Healthy"


def test_a_wait_that_ends_names_the_pod_the_event_and_the_message(deployed: Cluster) -> None:
    failed = status_of(deployed, application="DEPLOY_FAILED", message="BundleError: no manifest")
    say(deployed, failed)
    worker_pod(deployed)
    scheduler = "sentinel-live-worker"
    eventually(
        lambda: [e for e in deployed.objects("v1", "Event") if scheduler in str(e)],
        60,
        "the scheduler has said that no node takes the pod",
    )
    with pytest.raises(NotReady) as ended:
        wait(deployed, "sentinel", 0.5)
    said = "\n".join(ended.value.reasons)
    assert "application sentinel on sentinel-live is DEPLOY_FAILED: BundleError" in said
    assert "pod sentinel-live-worker (worker): no node takes it" in said
    assert "FailedScheduling" in said


def test_a_wait_ends_at_once_where_the_operator_has_given_up(deployed: Cluster) -> None:
    say(deployed, status_of(deployed, ready="False", reason="ValidationFailed"))
    began = time.monotonic()
    with pytest.raises(NotReady, match="ValidationFailed"):
        wait(deployed, "sentinel", 600)
    assert time.monotonic() - began < 300


def test_a_wait_for_a_service_that_is_not_there_says_so(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no RayService sentinel in namespace test-"):
        wait(cluster, "sentinel", 30)


def test_the_status_page_shows_all_there_is(deployed: Cluster) -> None:
    from rich.console import Console

    make_ray_cluster(deployed)
    say(deployed, status_of(deployed))
    worker_pod(deployed)
    found = status(deployed, "sentinel")
    assert found.health == "Healthy"
    assert found.versions.revision == 1
    assert [application.name for application in found.applications] == ["sentinel"]
    assert [group.name for group in found.groups] == ["workers"]
    assert [pod.name for pod in found.pods if pod.cluster] == ["sentinel-live-worker"]
    # No pod runs, so the head cannot be asked: the page says so instead of a number.
    assert "replicas on sentinel-live" in found.unknown[0]
    console = Console(width=160)
    with console.capture() as shown:
        console.print(page(found))
    text = shown.get()
    for part in ("Healthy", "FraudRouter", "sentinel-live-worker", "workers", "revision 1"):
        assert part in text


def test_an_upgrade_names_both_clusters(deployed: Cluster) -> None:
    said = status_of(deployed)
    said["conditions"].append(
        said["conditions"][0] | {"type": "UpgradeInProgress", "reason": "Both"}
    )
    say(deployed, said | {"pendingServiceStatus": {"rayClusterName": "sentinel-new"}})
    found = status(deployed, "sentinel")
    assert (found.upgrade.active, found.upgrade.to) == ("sentinel-live", "sentinel-new")
    assert found.health == "Progressing"


def versions(sights: Iterator[Sight]) -> Iterator[str]:
    for sight in sights:
        if sight.changed and sight.manifest is not None:
            yield sight.manifest["metadata"]["resourceVersion"]


def test_following_goes_on_from_a_version_that_the_server_has_forgotten(deployed: Cluster) -> None:
    # 410 Gone: that version is older than all that the server keeps for watchers.
    ref = ray_service("sentinel", deployed.namespace)
    live = deployed.get(ref)
    assert live is not None
    first = next(versions(follow(deployed, ref, since="1")))
    assert first == live["metadata"]["resourceVersion"]


def test_following_ends_with_no_object_when_it_is_removed(deployed: Cluster) -> None:
    ref = ray_service("sentinel", deployed.namespace)
    sights = follow(deployed, ref)
    assert next(sights).manifest is not None
    deployed.delete(ref)
    assert eventually(lambda: next(sights).manifest is None, 30, "the removal is seen")


@pytest.mark.skipif(bool(why_no_restart()), reason=why_no_restart())
def test_following_goes_on_through_a_restart_of_the_api_server(deployed: Cluster) -> None:
    ref = ray_service("sentinel", deployed.namespace)
    sights = follow(deployed, ref)
    assert next(sights).unreachable == ""
    with api_server_down():
        gone = eventually(lambda: (s := next(sights)).unreachable and s, 60, "it is noticed")
        assert gone.manifest is not None
    change = {"op": "replace", "path": "/spec/rayClusterDeletionDelaySeconds", "value": 99}
    eventually(lambda: not next(sights).unreachable, 60, "the server answers again")
    edit(deployed, ref, [change], "kubectl-edit")

    def changed() -> bool:
        seen = next(sights).manifest
        return seen is not None and seen["spec"]["rayClusterDeletionDelaySeconds"] == 99

    assert eventually(changed, 60, "a change after the restart is seen")
