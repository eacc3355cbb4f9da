"""The Ray cluster that the application runs on, joined for as long as a block runs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.ray_environment import PRIVATE
from deployments.rays_here import rays_here
from sentinel.errors import SentinelError


class NoApplication(SentinelError):
    """There is no running application to score by; says where it was looked for."""


@contextmanager
def joined_ray(address: str | None, application: str) -> Iterator[None]:
    """Joins the cluster at ``address``, or the one on this machine.

    Imports Ray, which reads its environment then.

    :raises NoApplication: no cluster, or no such application runs on it.
    """
    where = address or _only_one_here()
    for name, value in PRIVATE.items():  # as who started it did: see ``PRIVATE``
        os.environ.setdefault(name, value)
    import ray
    from ray import serve

    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise NoApplication(f"the Ray cluster at {where} cannot be joined: {text}") from error
    try:
        found = serve.status().applications.get(application)
        if found is None or found.status not in ("RUNNING", "DEPLOYING"):
            raise NoApplication(
                f"no application {application!r} runs on the Ray cluster at {where}; expected one "
                "that 'sentinel serve' or a RayService has started"
            )
        yield
    finally:
        ray.shutdown()


def _only_one_here() -> str:
    found = sorted(rays_here())
    if len(found) != 1:
        raise NoApplication(
            f"{len(found)} Ray clusters run on this machine; expected one with the application "
            "('sentinel serve' starts it), or --address of one"
        )
    return found[0]
