"""The same in real pods, under KubeRay's own operator, the hooks in pods of their own.

``KUBECONFIG`` names the cluster, ``SENTINEL_IMAGE`` an image on its node, ``SENTINEL_BUNDLES`` two
bundles baked into that image: ``PLACE=VERSION,PLACE=VERSION``.
"""

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ray_cluster.needed_secrets import make_passwords
from ray_cluster.objects import RAY, Ref
from ray_cluster.render import Release, render
from tests.cluster.kube import TRIAL, eventually
from tests.cluster.service_in_pods import IMAGE, TRANSACTION, Rows, Service
from tests.gitops.application import Application, ArgoCD

pytestmark = [pytest.mark.pods, pytest.mark.timeout(1800)]
LIVE_S = 600


class Answers:
    """Transactions one after another; when each was answered, and by which bundle."""

    def __init__(self, url: str) -> None:
        self.url, self.by, self.failed = url, list[tuple[float, str]](), list[str]()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        number = 0
        while not self.stopped.wait(0.05):
            number += 1
            row = TRANSACTION | {"transaction_id": f"{time.time_ns()}-{number}"}
            kind = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.url}/predict", json.dumps(row).encode(), kind)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    version = json.load(answer)["model_version"]
                self.by.append((time.monotonic(), version))
            except OSError as error:
                self.failed.append(str(error))


@contextmanager
def asked(url: str) -> Iterator[Answers]:
    answers = Answers(url)
    answers.thread.start()
    yield answers
    answers.stopped.set()
    answers.thread.join(20)


@pytest.fixture(scope="module")
def bundles() -> list[dict[str, str]]:
    """Two that are in the image."""
    told = os.environ.get("SENTINEL_BUNDLES", "")
    if told.count("=") != 2:
        pytest.skip("SENTINEL_BUNDLES is not set: PLACE=VERSION,PLACE=VERSION of two in the image")
    pairs = (each.split("=") for each in told.split(","))
    return [{"uri": place, "digest": digest} for place, digest in pairs]


@pytest.fixture
def in_pods(
    argo_with_pods: ArgoCD, tmp_path: Path, bundles: list[dict[str, str]]
) -> Iterator[Application]:
    """The first bundle, live."""
    made = Application(argo_with_pods, tmp_path, None)
    repository, _, tag = IMAGE.rpartition(":")
    make_passwords(made.cluster, render(Release(settings=TRIAL)))
    values: dict[str, Any] = {
        "bundle": bundles[0],
        "argocd": {"smokeSeconds": 120},
        "image": {"repository": repository, "tag": tag},
        "ingest": {"enabled": False},
        "redis": {"address": ""},
        "workers": {"minReplicas": 1, "maxReplicas": 2},
    }
    made.repository.commit_values("Begin", **values)
    made.start()
    try:
        eventually(made.settled, LIVE_S, "the first commit is live")
        yield made
    finally:
        # Not by Argo CD: the operator cleans up on Redis before the namespace may go.
        made.argo.cluster.delete(Ref("argoproj.io/v1alpha1", "Application", made.name))
        made.cluster.delete(Ref(RAY, "RayService", "sentinel"))
        eventually(lambda: not made.cluster.objects(RAY, "RayCluster"), 240, "they are gone")
        made.remove()


def test_a_new_bundle_goes_live_by_a_commit_and_no_request_fails(
    in_pods: Application, bundles: list[dict[str, str]]
) -> None:
    service, rows = Service(in_pods.cluster), Rows()
    old, new = (each["digest"] for each in bundles)
    with service.load() as load, asked(service.url) as answers:
        began = time.monotonic()
        in_pods.repository.commit_values("Promote", bundle=bundles[1])
        in_pods.refresh()
        eventually(in_pods.settled, LIVE_S, "the new bundle is live")
        settled = time.monotonic() - began
    assert {version for _, version in answers.by} == {old, new}
    assert answers.by[-1][1] == new
    assert (load.failed, answers.failed) == (0, [])
    assert load.requests > 0
    first = next(at for at, version in answers.by if version == new) - began
    told = f"first answer after {first:.1f} s, healthy and asked after {settled:.0f} s"
    rows.note("a new bundle by a commit", f"{told}; {load.failed} of {load.requests} failed")
    if "SENTINEL_ROWS" in os.environ:
        rows.write(Path(os.environ["SENTINEL_ROWS"]), os.environ.get("KUBERAY_VERSION", ""))


def test_a_bundle_that_is_not_there_is_refused_while_the_old_one_answers(
    in_pods: Application, bundles: list[dict[str, str]]
) -> None:
    with asked(Service(in_pods.cluster).url) as answers:
        in_pods.repository.commit_values("Promote", bundle={"uri": "/none", "digest": "f" * 64})
        in_pods.refresh()
        said = eventually(in_pods.failure, LIVE_S, "the sync fails")
    assert "bundle.uri: /none: there is no bundle" in said
    assert {version for _, version in answers.by} == {bundles[0]["digest"]}
    assert answers.failed == []


def test_changed_bounds_reach_the_live_cluster_in_pods(in_pods: Application) -> None:
    in_pods.repository.commit_values("More", workers={"minReplicas": 1, "maxReplicas": 3})
    in_pods.refresh()
    eventually(in_pods.settled, LIVE_S, "it is live")
    (live,) = in_pods.cluster.objects(RAY, "RayCluster")
    assert live["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 3
