"""Pods and images in a person's terms."""

from typing import Any

import pytest

from ray_cluster.errors import ClusterError
from ray_cluster.sightings import pod_of
from ray_cluster.trial import image_settings
from ray_cluster.trial_places import Place


def manifest(**status: Any) -> dict[str, Any]:
    labels = {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "workers"}
    return {
        "metadata": {"name": "p", "labels": labels},
        "spec": {"containers": [{"name": "ray-worker", "image": "i:1"}]},
        "status": {"phase": "Pending"} | status,
    }


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "ray-worker", "state": state, "ready": False} | more]}


def test_a_pod_knows_its_part_its_group_and_its_container() -> None:
    pod = pod_of(manifest())
    assert (pod.role, pod.group, pod.container, pod.image) == (
        "worker",
        "workers",
        "ray-worker",
        "i:1",
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "3 CPUs"}]},
            "no node takes it: 3 CPUs",
        ),
        (
            container({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            "ray-worker: ImagePullBackOff: no such image",
        ),
        (
            container(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            "ray-worker: CrashLoopBackOff; ended by OOMKilled, exit code 137",
        ),
        (
            container({"running": {"startedAt": "now"}}),
            "ray-worker: runs, and its readiness probe does not pass",
        ),
        (container({"waiting": {"reason": "ContainerCreating"}}), ""),
    ],
)
def test_what_keeps_a_pod_is_told_as_the_kubelet_or_scheduler_says_it(
    status: dict[str, Any], said: str
) -> None:
    assert pod_of(manifest(**status)).trouble == said


def test_a_pod_that_is_ready_has_no_trouble() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    pod = pod_of(manifest(**ready, **container({"running": {}})))
    assert pod.ready
    assert pod.trouble == ""


@pytest.mark.parametrize(
    ("image", "settings"),
    [
        ("a/b:1", ("image.repository=a/b", "image.tag=1")),
        ("host:5000/a/b:1", ("image.repository=host:5000/a/b", "image.tag=1")),
        ("a/b@sha256:0f", ("image.repository=a/b", "image.digest=sha256:0f")),
    ],
)
def test_an_image_is_told_to_the_chart_by_tag_or_digest(
    image: str, settings: tuple[str, ...]
) -> None:
    assert image_settings(image) == settings


@pytest.mark.parametrize("image", ["a/b", "host:5000/a/b"])
def test_an_image_without_a_tag_is_refused(image: str) -> None:
    with pytest.raises(ClusterError, match="expected NAME:TAG"):
        image_settings(image)


def test_kind_and_minikube_are_known_by_their_contexts_names() -> None:
    assert Place.of("kind-mine") == Place("kind", "mine")
    assert Place.of("minikube") == Place("minikube", "minikube")
    assert Place.of("work").sort == "other"
