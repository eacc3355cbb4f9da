"""Whether another Ray is in the way is a question of this machine's network."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from deployments.rays_here import rays_here

READY = "import time; print('ready', flush=True); time.sleep(60)"


@contextmanager
def process_of_a_ray(address: str, *before: str, name: str = "raylet") -> Iterator[None]:
    """A process with the command line of one of Ray's."""
    named = ["bash", "-c", f'exec -a /opt/{name} "$@"', "bash"]
    command = [*before, *named, sys.executable, "-c", READY, f"--gcs-address={address}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def test_a_ray_beside_this_process_is_here() -> None:
    with process_of_a_ray("127.0.0.1:12345"):
        assert "127.0.0.1:12345" in rays_here()
    assert "127.0.0.1:12345" not in rays_here()


def test_what_a_killed_ray_leaves_behind_is_no_ray() -> None:
    with process_of_a_ray("127.0.0.1:12347", name="python"):
        assert "127.0.0.1:12347" not in rays_here()


def test_a_ray_with_a_network_of_its_own_is_not() -> None:
    with process_of_a_ray("127.0.0.1:12346", "unshare", "--net"):
        assert "127.0.0.1:12346" not in rays_here()
