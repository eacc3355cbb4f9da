"""Which Ray clusters run on this machine and share its network with this process.

Those in containers with a network of their own (a pod of kind or minikube, say) show among the
processes of this machine too; but they take no port here, and nothing here reaches them.
"""

import os
import re

import psutil

_GCS = re.compile(r"--gcs-address=(\S+)")
"""What Ray gives each of its processes, as a word of its command line or inside one."""


def rays_here() -> set[str]:
    """The addresses of their head services, ``host:port``, as Ray's processes name them."""
    ours = _network(os.getpid())
    found: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        named = _GCS.findall(" ".join(process.info["cmdline"] or ()))
        if named and _network(process.pid) == ours:
            found.update(named)
    return found


def _network(pid: int) -> str:
    """The network namespace of a process; one name for all where there are none, or it has gone or
    is another user's: such a one counts as here."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return _network(os.getpid()) if os.path.exists("/proc/self/ns/net") else ""
