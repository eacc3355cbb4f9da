"""One word for how a RayService is: what our commands say is what Argo CD says."""

import pytest

from ray_cluster.health import health
from ray_cluster.rayservice import read_service
from tests.gitops.rows import Row, rows


@pytest.mark.parametrize("row", rows("RayService"), ids=str)
def test_a_rayservice_is_called_what_argo_cd_is_told_to_call_it(row: Row) -> None:
    found = health(read_service(row.object()))
    assert (found.word, row.says in found.reason) == (row.expected, True), found.reason
