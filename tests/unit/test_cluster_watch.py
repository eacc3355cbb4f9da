"""What following makes of a server that refuses: while it starts, and for good.

The answers are scripted: a real server's start shows them or not, by chance
(``tests/cluster/test_following.py`` restarts one).
"""

from collections.abc import Sequence
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from ray_cluster import watch
from ray_cluster.errors import CannotReach, ClusterError, RefusedByCluster
from ray_cluster.objects import ray_service
from ray_cluster.watch import follow

FOUND = {"metadata": {"resourceVersion": "7"}, "items": [{"kind": "RayService"}]}


class Scripted:
    """A cluster whose answers to a list are these, one after the other."""

    def __init__(self, answers: Sequence[int | Exception]) -> None:
        self._answers = [_refused(a) if isinstance(a, int) else a for a in answers]

    def listing(self, *_: str, **__: Any) -> dict[str, Any]:
        if self._answers:
            raise self._answers.pop(0)
        return FOUND


def _refused(status: int) -> ClusterError:
    error = RefusedByCluster("listing", [str(status)])
    error.__cause__ = ApiException(status=status)
    return error


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RETRY_S", 0)


def sights(*answers: int | Exception) -> list[bool]:
    """Whether the server was there at each sight, up to the first of the object."""
    cluster: Any = Scripted(answers)
    there = []
    for sight in follow(cluster, ray_service("sentinel", "here")):
        there.append(not sight.unreachable)
        if sight.manifest is not None:
            return there
    raise AssertionError


@pytest.mark.parametrize("first", [CannotReach("nobody"), 429, 500, 503])
def test_a_server_that_starts_may_refuse_for_a_moment(first: int | Exception) -> None:
    assert sights(first, 403, 404, 429, 403) == [False] * 5 + [True]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_of_a_server_that_is_ready_ends_it(status: int) -> None:
    with pytest.raises(RefusedByCluster):
        sights(status)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_that_lasts_ends_it(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STARTING_S", 0)
    with pytest.raises(RefusedByCluster):
        sights(503, status)
