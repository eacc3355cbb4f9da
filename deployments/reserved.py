"""What Ray has given the process that asks."""

import ray

WHOLE = 1.0


def reserved_cpus() -> float:
    """The CPUs that this replica was placed with: ``num_cpus`` of its ``ray_actor_options``.

    0 where nothing is reserved, and one core outside of Ray.
    """
    if not ray.is_initialized():
        return WHOLE
    context = ray.get_runtime_context()
    assigned = context.get_assigned_resources()  # type: ignore[no-untyped-call]
    return float(assigned.get("CPU", 0.0))
