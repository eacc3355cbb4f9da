"""A commit to the repository, and what becomes of it in the cluster: good, bad, reverted."""

import pytest

from ray_cluster.objects import Ref, ray_service
from sentinel.bundle import open_bundle
from tests.cluster.kube import edit, eventually
from tests.gitops.application import Application
from tests.gitops.by_hand import say_running
from tests.gitops.repository import ROOT


def named(bundle: str) -> dict[str, str]:
    """The values of a commit that brings this bundle."""
    return {"uri": bundle, "digest": open_bundle(bundle).digest}


def test_a_commit_is_checked_synced_healthy_and_asked(live: Application) -> None:
    assert live.pods.ran in (["check", "smoke", "bounds"], ["check", "bounds", "smoke"])


def test_a_new_bundle_goes_live_by_a_commit_and_comes_back_by_a_revert(
    live: Application, plain_bundle: str, other_bundle: str
) -> None:
    live.repository.commit_values("Promote", bundle=named(other_bundle))
    live.refresh()
    with live.pods.service.by(other_bundle):
        live.run()
        eventually(live.settled, 60, "the new bundle is live")
        assert live.bundle() == other_bundle
    live.repository.revert()
    live.refresh()
    live.run()
    eventually(live.settled, 60, "the old bundle is live")
    assert live.bundle() == plain_bundle


def test_an_edit_by_hand_is_taken_back(live: Application) -> None:
    ref = ray_service("sentinel", live.name)
    before = live.rayservice()
    assert before is not None
    mine = before["spec"]["serveConfigV2"].replace("max_replicas: 2", "max_replicas: 9")
    operation = {"op": "replace", "path": "/spec/serveConfigV2", "value": mine}
    edit(live.cluster, ref, [operation], "kubectl-edit")
    eventually(lambda: (live.rayservice() or {})["spec"] == before["spec"], 30, "it is taken back")


def test_a_bundle_that_is_not_there_never_reaches_the_cluster(
    live: Application, plain_bundle: str
) -> None:
    before = live.rayservice()
    live.repository.commit_values("Promote", bundle={"uri": "/models/none", "digest": "f" * 64})
    live.refresh()
    said = eventually(live.failure, 90, "the sync fails")
    assert "bundle.uri: /models/none: there is no bundle" in said
    assert live.rayservice() == before
    live.repository.revert()
    live.refresh()
    eventually(live.settled, 60, "the revert heals it")


def test_another_bundle_than_the_commit_says_never_reaches_the_cluster(
    live: Application, other_bundle: str
) -> None:
    before = live.rayservice()
    live.repository.commit_values("Promote", bundle={"uri": other_bundle, "digest": "f" * 64})
    live.refresh()
    said = eventually(live.failure, 90, "the sync fails")
    assert open_bundle(other_bundle).digest in said
    assert live.rayservice() == before


def test_a_serve_config_that_serve_would_not_run_never_reaches_the_cluster(
    live: Application,
) -> None:
    before = live.rayservice()
    path = "ray_cluster/chart/files/serve-config.yaml"
    text = (ROOT / path).read_text().replace("max_ongoing_requests: 8192", "max_requests: 8192")
    live.repository.commit("Tune", **{path: text})
    live.refresh()
    said = eventually(live.failure, 90, "the sync fails")
    assert "deployments.0.max_requests: no such key" in said
    assert live.rayservice() == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workers": {"minReplicas": 3, "maxReplicas": 2}}, "workers.minReplicas is 3"),
        ({"bundle": {"digest": ""}}, "bundle.digest is empty"),
        ({"bundel": {"uri": "x"}}, "bundel"),
    ],
    ids=["a minimum over the maximum", "no version of the bundle", "a key that is misspelt"],
)
def test_values_that_the_chart_refuses_change_nothing(
    live: Application, values: dict[str, object], said: str
) -> None:
    before = live.rayservice()
    live.repository.commit_values("Change", **values)
    live.refresh()
    assert said in eventually(live.cannot_render, 60, "the application cannot be rendered")
    assert live.rayservice() == before
    live.repository.revert()
    live.refresh()
    eventually(live.settled, 60, "the revert heals it")


def test_values_that_are_no_yaml_change_nothing(live: Application) -> None:
    before = live.rayservice()
    live.repository.commit(
        "Change", **{"ray_cluster/argocd/values/production.yaml": "bundle: {uri: [\n"}
    )
    live.refresh()
    said = eventually(live.cannot_render, 60, "the application cannot be rendered")
    assert "production.yaml" in said
    assert live.rayservice() == before


def test_a_change_that_replicas_refuse_is_degraded_and_named(
    live: Application, other_bundle: str
) -> None:
    live.repository.commit_values("Promote", bundle=named(other_bundle))
    live.refresh()
    live.run(application="DEPLOY_FAILED", message="BundleError: no room for it")
    eventually(lambda: live.health() == "Degraded", 60, "the application is degraded")
    said = eventually(live.failure, 60, "the sync fails")
    assert "DEPLOY_FAILED: BundleError: no room for it" in said
    assert live.pods.ran.count("smoke") == 1  # of the commit before


def test_a_bundle_that_is_not_taken_is_found_by_the_smoke(
    live: Application, plain_bundle: str, other_bundle: str
) -> None:
    live.repository.commit_values("Promote", bundle=named(other_bundle))
    live.refresh()
    live.run()  # the operator finds nothing wrong: applications run, by the old bundle
    said = eventually(live.failure, 90, "the sync fails")
    assert f"came from bundle {open_bundle(plain_bundle).digest}" in said
    live.repository.revert()
    live.refresh()
    live.run()
    eventually(live.settled, 60, "the revert heals it")


def test_monitors_come_after_the_service(application: Application) -> None:
    monitor = Ref("monitoring.coreos.com/v1", "PodMonitor", "sentinel-worker")
    application.start()
    eventually(lambda: application.rayservice() is not None, 60, "the RayService is applied")
    say_running(application.cluster, ready="False", reason="Initializing")
    eventually(lambda: application.health() == "Progressing", 30, "it is seen")
    assert application.cluster.get(monitor) is None
    application.run()
    eventually(application.settled, 90, "all of it is live")
    assert application.cluster.get(monitor) is not None
