"""What is said of a release before any cluster has seen it."""

from pathlib import Path

import pytest

from ray_cluster.differences import Difference, differences
from ray_cluster.errors import CannotRender
from ray_cluster.objects import Manifest, Ref, in_order
from ray_cluster.release import the_service
from ray_cluster.render import Release, as_yaml, parse, place, render
from ray_cluster.revisions import Revision, choose, leftovers
from ray_cluster.serve_check import check_serve_config, check_service
from sentinel.errors import SentinelError

CONFIG = (Path(__file__).parents[2] / "serve_app" / "config.yaml").read_text()


def an_object(kind: str, name: str = "x") -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def test_the_shipped_serve_config_is_one_that_serve_runs() -> None:
    check_serve_config(CONFIG)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("num_cpus: 0.1", "num_cpu: 0.1", "deployments.1.ray_actor_options.num_cpu"),
        ("max_ongoing_requests: 8192", "max_ongoing: 8192", "deployments.0.max_ongoing"),
        ("look_back_period_s: 3", "lookback: 3", "autoscaling_config"),
        ("min_replicas: 1", "min_replicas: 5", "must be greater than or equal to min_replicas"),
        ("policy_kwargs: {}", "policy_kwargs: {objective: 50}", "policy_kwargs.objective"),
        ("applications:", "aplications:", "applications: missing"),
        ("  - name: sentinel", " - name: sentinel\n-", "no YAML"),
    ],
)
def test_what_the_operator_would_take_in_silence_is_refused_with_its_place(
    right: str, wrong: str, said: str
) -> None:
    assert right in CONFIG
    with pytest.raises(CannotRender) as refused:
        check_serve_config(CONFIG.replace(right, wrong))
    assert said in str(refused.value)


def test_a_name_that_leaves_no_room_for_kuberays_own_is_refused() -> None:
    service = {"metadata": {"name": "s" * 48}, "spec": {"serveConfigV2": CONFIG}}
    with pytest.raises(CannotRender, match="48 characters, expected 47"):
        check_service(service)


def test_without_helm_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotRender, match="no helm on PATH"):
        render(Release())


def test_rendered_text_that_is_no_object_is_refused() -> None:
    with pytest.raises(CannotRender, match="expected apiVersion, kind"):
        parse("just: this\n", "helm's output")


def test_a_release_without_a_rayservice_is_refused() -> None:
    with pytest.raises(CannotRender, match="holds 0 RayServices, expected one"):
        the_service([an_object("Service")])


def test_a_manifest_survives_being_printed() -> None:
    manifest = an_object("ConfigMap") | {"data": {"a": "one\ntwo\n", "b": "no", "c": "1e3"}}
    assert parse(as_yaml([manifest, manifest]), "here") == [manifest, manifest]
    assert "a: |" in as_yaml([manifest])


def test_a_namespace_is_written_into_what_lives_in_one() -> None:
    pod, role = place([an_object("Pod"), an_object("ClusterRole")], "fraud")
    assert pod["metadata"]["namespace"] == "fraud"
    assert "namespace" not in role["metadata"]


def test_what_pods_need_is_applied_before_them_and_the_rayservice_last() -> None:
    kinds = ["RayService", "Deployment", "ConfigMap", "NetworkPolicy", "Service"]
    ray = an_object("RayService") | {"apiVersion": "ray.io/v1"}
    mixed = [ray, *map(an_object, kinds[1:])]
    ordered = [manifest["kind"] for manifest in in_order(mixed)]
    assert ordered == ["NetworkPolicy", "ConfigMap", "Service", "Deployment", "RayService"]


def test_differences_are_named_by_path_and_lists_by_their_members_names() -> None:
    has = {"groups": [{"groupName": "workers", "max": 2}], "same": 1, "empty": None, "list": []}
    wants = {"groups": [{"groupName": "workers", "max": 3}], "same": 1, "empty": {}}
    assert list(differences(has, wants)) == [Difference("groups[workers].max", 2, 3)]


def test_false_and_zero_are_not_nothing() -> None:
    found = list(differences({"a": False, "b": 0}, {}))
    assert [difference.path for difference in found] == ["a", "b"]


def revision(number: int) -> Revision:
    return Revision(number, "deploy", "2026-01-01T00:00:00+00:00", [])


def test_a_rollback_goes_to_the_revision_before_unless_told() -> None:
    known = [revision(4), revision(5), revision(7)]
    assert choose(known, "sentinel", None).number == 5
    assert choose(known, "sentinel", 4).number == 4
    with pytest.raises(SentinelError, match=r"no revision 6; known: 4, 5, 7"):
        choose(known, "sentinel", 6)
    with pytest.raises(SentinelError, match=r"no earlier revision"):
        choose(known[:1], "sentinel", None)


def test_what_a_release_no_longer_has_is_removed_but_never_storage() -> None:
    old = [an_object("Service", "a"), an_object("PersistentVolumeClaim"), an_object("Service", "b")]
    assert leftovers(old, [an_object("Service", "b")]) == [Ref("v1", "Service", "a")]
