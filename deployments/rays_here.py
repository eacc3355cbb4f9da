"""Which Ray clusters run on this machine and share its network with this process.

Those in containers with a network of their own (a pod of kind or minikube, say) show among the
processes of this machine too; but they take no port here, and nothing here reaches them.

A cluster runs here while its raylet does. What a cluster that was killed leaves behind, a worker
that was just starting, say, looks for it for half a minute before it ends, and is no cluster.
"""

import os
import re

import psutil

_GCS = re.compile(r"--gcs-address=(\S+)")
"""What Ray gives each of its processes, as a word of its command line or inside one."""

_RAYLET = "raylet"
"""The program that each node of a cluster runs one of."""


def rays_here() -> set[str]:
    """The addresses of their head services, ``host:port``, as their raylets name them."""
    ours = _network(os.getpid())
    found: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        named = _GCS.findall(" ".join(words)) if os.path.basename(words[0]) == _RAYLET else ()
        if named and _network(process.pid) in (ours, None):
            found.update(named)
    return found


def _network(pid: int) -> str | None:
    """The network namespace of a process; ``None`` where it cannot be told (another user's process,
    one that has gone, a system without them): such a one counts as here."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None
