"""What a replica was given counts; outside of Ray, where nobody gives anything, it is a core."""

from deployments.reserved import WHOLE, reserved_cpus


def test_outside_of_ray_there_is_one_core() -> None:
    assert reserved_cpus() == WHOLE
