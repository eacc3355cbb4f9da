"""The trial in real pods, under KubeRay's own operator: one service, through its life."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_cluster.api import Cluster
from ray_cluster.objects import RAY, Ref
from ray_cluster.scale import Bounds, Wanted, scale
from ray_cluster.serve_view import serve_applications
from tests.cluster.kube import OPERATOR, eventually
from tests.cluster.service_in_pods import IMAGE, NEXT_IMAGE, Rows, Service, seconds_until

pytestmark = [pytest.mark.pods, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    seen = Rows()
    yield seen
    if os.environ.get("SENTINEL_ROWS"):
        seen.write(Path(os.environ["SENTINEL_ROWS"]), os.environ.get("KUBERAY_VERSION", OPERATOR))


@pytest.fixture(scope="module")
def service(anywhere: Cluster) -> Iterator[Service]:
    """One namespace for all: what a test leaves is what the next one starts with."""
    name = f"pods-{secrets.token_hex(4)}"
    anywhere.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster = Cluster(anywhere.api, name)
    yield Service(cluster)
    # The service first: the operator cleans up on Redis before the cluster may go.
    cluster.delete(Ref(RAY, "RayService", "sentinel"))
    eventually(lambda: not cluster.objects(RAY, "RayCluster"), 180, "the Ray clusters are gone")
    anywhere.delete(Ref("v1", "Namespace", name))


def test_an_install_turns_ready_and_scores_a_transaction(service: Service, rows: Rows) -> None:
    service.deploy(IMAGE)
    seconds = service.wait()
    answer = service.score()
    assert answer["transaction_id"] == "t1"
    assert answer["degraded"] is False
    rows.note("installed until healthy", f"{seconds:.0f} s; a transaction is scored")


def bounds_of(service: Service, deployment: str) -> int:
    """The most replicas that the running cluster's autoscaling lets this deployment have."""
    name = service.ray_cluster
    found = serve_applications(service.cluster, name, f"{name}-head-svc")
    (target,) = [d.maximum for a in found for d in a.deployments if d.name == deployment]
    return target or 0


def test_a_changed_serve_config_is_brought_in_where_it_runs(service: Service, rows: Rows) -> None:
    before = {pod.name for role in ("head", "worker") for pod in service.pods(role)}
    with service.load() as load:
        service.deploy(IMAGE, "serve.deployments.XGBoost.maxReplicas=3")
        seconds = seconds_until(lambda: bounds_of(service, "XGBoost") == 3, 120, "Serve has it")
        service.wait()
    after = {pod.name for role in ("head", "worker") for pod in service.pods(role)}
    assert before <= after
    assert load.requests > 0
    assert load.failed == 0
    told = f"{seconds:.0f} s until Serve has it, same pods; {load.failed} of {load.requests} failed"
    rows.note("Serve config changed in place", told)


@pytest.mark.skipif(not NEXT_IMAGE, reason="SENTINEL_NEXT_IMAGE is not set: another image there")
def test_a_new_image_comes_in_a_cluster_of_its_own_and_no_request_fails(
    service: Service, rows: Rows
) -> None:
    old = service.ray_cluster
    with service.load() as load:
        service.deploy(NEXT_IMAGE)
        switched = seconds_until(lambda: service.ray_cluster not in ("", old), 420, "the switch")
        gone = switched + seconds_until(lambda: not cluster_named(service, old), 240, "old gone")
    service.wait()
    assert {pod.image for pod in service.pods("worker")} == {NEXT_IMAGE}
    assert load.requests > 0
    assert load.failed == 0
    told = f"switched after {switched:.0f} s, the old one gone after {gone:.0f} s"
    rows.note("new image, a second cluster", f"{told}; {load.failed} of {load.requests} failed")


def cluster_named(service: Service, name: str) -> bool:
    return service.cluster.get(Ref(RAY, "RayCluster", name)) is not None


def test_queued_work_brings_a_worker_pod_and_quiet_takes_it_away(
    service: Service, rows: Rows
) -> None:
    scale(service.cluster, "sentinel", Wanted(workers=Bounds(1, 2), replicas=Bounds(1, 4)))
    service.wait()
    seconds_until(lambda: len(service.pods("worker")) == 1, 300, "one worker pod to begin with")
    with service.load(users=96) as load:
        up = seconds_until(lambda: ready_workers(service) == 2, 300, "a second worker pod")
    down = seconds_until(lambda: len(service.pods("worker")) == 1, 600, "it goes again")
    told = f"a second worker pod ready after {up:.0f} s, gone {down:.0f} s after the load"
    rows.note("96 users, then none", f"{told}; {load.failed} of {load.requests} failed")
    assert load.failed == 0


def ready_workers(service: Service) -> int:
    return sum(pod.ready for pod in service.pods("worker"))


def test_after_a_worker_pod_is_killed_the_service_is_well_again(
    service: Service, rows: Rows
) -> None:
    (killed, *_) = service.pods("worker")
    service.kill(killed)

    def replaced() -> bool:
        now = service.pods("worker")
        return bool(now) and all(pod.ready and pod.name != killed.name for pod in now)

    seconds = seconds_until(replaced, 300, "another worker pod is ready")
    service.wait()
    service.score()
    rows.note("the only worker pod killed", f"another ready after {seconds:.0f} s; it scores")


def test_while_the_head_pod_is_killed_and_comes_back_answers_go_on(
    service: Service, rows: Rows
) -> None:
    (killed,) = service.pods("head")
    workers = {pod.name for pod in service.pods("worker")}
    with service.load() as load:
        service.kill(killed)

        def back() -> bool:
            return any(pod.ready and pod.name != killed.name for pod in service.pods("head"))

        seconds = seconds_until(back, 300, "another head pod is ready")
    service.wait()
    service.score()
    # Ray's autoscaler may have added one meanwhile.
    assert workers <= {pod.name for pod in service.pods("worker")}
    assert load.requests > 0
    assert load.failed == 0
    told = f"another ready after {seconds:.0f} s, the workers stay"
    rows.note("the head pod killed", f"{told}; {load.failed} of {load.requests} failed")
