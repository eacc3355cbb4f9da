"""Who reaches which port of whom, by the network policies as Kubernetes reads them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.chart.rendering import Object, pods, rendered

Labels = Mapping[str, str]

STRANGER = {"app": "shop"}
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
ROUTERS = range(30_000, 31_001)


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", [])
    )


def policies(objects: list[Object], labels: Labels) -> list[Object]:
    found = [i["spec"] for i in objects if i["kind"] == "NetworkPolicy"]
    return [spec for spec in found if matches(spec["podSelector"], labels)]


def ports(rule: Mapping[str, Any]) -> set[int] | None:
    """None: all of them."""
    return {port["port"] for port in rule["ports"]} if "ports" in rule else None


def lets_in(objects: list[Object], to: Labels, peer: Labels, inside: bool) -> Iterator[Any]:
    """The ports of ``to`` that a pod reaches which is in the same namespace, or is not."""
    for policy in policies(objects, to):
        for rule in policy.get("ingress", []):
            for one in rule["from"]:
                at_home = "namespaceSelector" in one or inside
                if at_home and matches(one.get("podSelector", {}), peer):
                    yield ports(rule)


@pytest.fixture(scope="module")
def labels(trial: list[Object]) -> dict[str, Labels]:
    found: dict[str, Labels] = {n: {**t["metadata"]["labels"]} for n, t in pods(trial).items()}
    return found


def test_every_pod_is_under_a_policy_both_ways(
    trial: list[Object], labels: dict[str, Labels]
) -> None:
    for name, own in labels.items():
        both = {way for policy in policies(trial, own) for way in policy["policyTypes"]}
        assert both == {"Ingress", "Egress"}, name


def test_a_stranger_reaches_the_api_and_nothing_else(
    trial: list[Object], labels: dict[str, Labels]
) -> None:
    for inside in (True, False):
        for name in ("head", "workers"):
            assert list(lets_in(trial, labels[name], STRANGER, inside)) == [{8000}]
        assert not list(lets_in(trial, labels["sentinel-redis"], STRANGER, inside))


def test_the_routers_own_ports_are_for_serves_own_pods(
    trial: list[Object], labels: dict[str, Labels]
) -> None:
    reached = list(lets_in(trial, labels["workers"], labels["head"], True))
    assert None in reached, "Ray chooses ports among its own"
    for peer in (STRANGER, OPERATOR, PROMETHEUS, labels["sentinel-redis"]):
        for inside in (True, False):
            for found in lets_in(trial, labels["workers"], peer, inside):
                assert found is not None
                assert not found & set(ROUTERS)


def test_another_release_is_a_stranger(labels: dict[str, Labels]) -> None:
    other = rendered(name="other")
    assert list(lets_in(other, pods(other)["workers"]["metadata"]["labels"], labels["head"], True))
    for found in lets_in(other, pods(other)["workers"]["metadata"]["labels"], labels["head"], True):
        assert found == {8000}


def test_the_operator_and_prometheus_reach_what_they_ask(
    trial: list[Object], labels: dict[str, Labels]
) -> None:
    def reached(name: str, peer: Labels) -> set[int]:
        found = lets_in(trial, labels[name], peer, False)
        return {port for ports in found if ports for port in ports}

    assert reached("head", OPERATOR) == {8265, 8000}
    assert reached("workers", OPERATOR) == {8265, 8000}
    assert reached("head", PROMETHEUS) == {8080, 44217, 44227, 8000}


def test_production_lets_only_named_namespaces_ask(production: list[Object]) -> None:
    (policy,) = [
        i["spec"]
        for i in production
        if i["kind"] == "NetworkPolicy" and i["metadata"]["name"] == "sentinel-ray"
    ]
    (clients,) = [
        r["from"]
        for r in policy["ingress"]
        if r.get("ports") == [{"protocol": "TCP", "port": 8000}]
    ]
    names = {c["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for c in clients}
    assert names == {"gateway", "payments"}


def test_a_pod_goes_out_only_to_what_it_needs(
    production: list[Object], labels: dict[str, Labels]
) -> None:
    def going_out(name: str) -> set[int]:
        rules = [r for p in policies(production, labels[name]) for r in p.get("egress", [])]
        return {port for rule in rules for port in ports(rule) or ()}

    assert going_out("workers") == {53, 6379, 443}, "names, Redis, the bundle's store"
    assert going_out("head") == {53, 6379, 443, 6443}, "and the API server"


def test_the_small_redis_goes_nowhere(trial: list[Object], labels: dict[str, Labels]) -> None:
    assert not [r for p in policies(trial, labels["sentinel-redis"]) for r in p.get("egress", [])]
