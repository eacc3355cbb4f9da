"""The environment that Ray Serve runs fast and safely in.

Ray reads these when it is imported, so no config file can hold them. ``sentinel serve`` sets what
the user has not; ``sentinel serve --print-env`` shows them, for ``serve run``. The chart has those
for pods in a file that this module writes: ``python -m serve_app.environment``.
"""

import os
import shlex
import socket
import sysconfig
from collections.abc import Mapping, MutableMapping

from deployments.ray_environment import PRIVATE
from serve_app.haproxy import BINARY
from serve_app.serve_config import CannotServe

HAPROXY_FOLDER = f"/tmp/haproxy-serve-{os.getuid()}"
"""A short path: sockets in it may have 108 characters with the node's id."""

EVERYWHERE: Mapping[str, str] = {
    # A model runs one thread: several pools on two cores cost two thirds of the speed.
    "OMP_NUM_THREADS": "1",
    # Ray would have all that it starts give way (15) to whatever else the machine does: a payment
    # waits for nobody's batch job.
    "RAY_worker_niceness": "0",
    # HAProxy in front, straight to the routers: Serve's own proxy is several times slower.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Serve's counts of HTTP requests come from the routers then, a hundred at a time. Otherwise
    # HAProxy writes a line of log for each request, which a Python process takes apart: a tenth of
    # a core at 1,500 requests a second.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A router that is to stop stays reachable so many seconds, until every HAProxy knows (it takes
    # a fraction of one; the default, 30, is for load balancers elsewhere).
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
    # A proxy that is not up after three times so long is killed and begins again. On a busy machine
    # or in a small pod the start of its process alone takes more than the default, 5.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
    # /metrics is at most so many milliseconds and one second behind; the default is 10 s.
    "RAY_metrics_report_interval_ms": "1000",
    # Ray shows a gauge for as long only, and Serve sets those of its status every 10 s by default:
    # most scrapes would find neither the application's status nor its healthy replicas.
    "RAY_SERVE_STATUS_GAUGE_REPORT_INTERVAL_S": "0.5",
    # Throughput mode would keep a thousand lines back; there is none a request (no access log).
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # To the log files alone: a terminal shows what the command has to say.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What is the same on one machine and in the pods of a cluster."""


def haproxy_threads(processors: int) -> int:
    """The default, 4, makes HAProxy's threads and the models take turns on a small machine."""
    return max(1, min(4, processors // 2))


RECOMMENDED: Mapping[str, str] = {
    **EVERYWHERE,
    # HAProxy refuses what the routers have no room for.
    BINARY: os.path.join(sysconfig.get_path("scripts"), "sentinel-haproxy"),
    "RAY_SERVE_HAPROXY_NBTHREAD": str(haproxy_threads(os.cpu_count() or 1)),
    # Its default folder belongs to whoever used it first.
    **{
        f"RAY_SERVE_HAPROXY_{name}": f"{HAPROXY_FOLDER}{file}"
        for name, file in {
            "CONFIG_FILE_LOC": "/haproxy.cfg",
            "SOCKET_PATH": "/admin.sock",
            "SERVER_STATE_BASE": "",
            "SERVER_STATE_FILE": "/server-state",
            "METRICS_SOCKET_PATH": "/metrics.sock",
        }.items()
    },
    **PRIVATE,
}

IN_PODS: Mapping[str, str] = {
    **EVERYWHERE,
    BINARY: "/opt/sentinel/bin/sentinel-haproxy",  # where the image has it
}
"""What the chart gives every pod. Threads follow from the pod's CPUs, the token from KubeRay, and
what listens must be reached by other pods."""

PORTS: Mapping[str, int] = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
"""Ports that HAProxy and Serve take beside the one of the API, by the setting of each; others are
chosen where these are taken."""


def set_recommended(environment: MutableMapping[str, str]) -> None:
    """Sets what is not set yet, with free ports and a folder for HAProxy that is this user's."""
    os.makedirs(HAPROXY_FOLDER, mode=0o700, exist_ok=True)
    if os.stat(HAPROXY_FOLDER, follow_symlinks=False).st_uid != os.getuid():
        taken = (
            f"{HAPROXY_FOLDER} belongs to another user, who could read and change what HAProxy does"
        )
        raise CannotServe(f"{taken}; expected to be its owner")
    for name, value in RECOMMENDED.items():
        environment.setdefault(name, value)
    for name, port in PORTS.items():
        if name not in environment and not is_free(port):
            environment[name] = str(free_port())


def as_shell() -> str:
    """The recommended settings as lines for a shell."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in RECOMMENDED.items())


def is_free(port: int) -> bool:
    """Whether nothing on this machine listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    print("# What serve_app/environment.py says for pods; `make chart` writes it.")
    print("\n".join(f'{name}: "{value}"' for name, value in IN_PODS.items()))
