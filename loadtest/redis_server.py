"""A Redis server of the bench's own, as a user with data to lose would configure it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.processes import ContenderFailed, end, free_port

START_SECONDS = 20.0

NO_REDIS = "redis-server is not on PATH; Debian has it: apt-get install redis-server"

CONDITIONS = "appendonly yes, appendfsync everysec, on the same cores"
"""What is said of it beside the figures."""


def redis_version() -> str | None:
    """Its version; ``None`` where there is none on PATH."""
    if shutil.which("redis-server") is None:
        return None
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True)
    words = dict(word.split("=", 1) for word in said.stdout.split() if "=" in word)
    return words.get("v", "unknown")


@contextmanager
def redis_running(folder: Path) -> Iterator[str]:
    """Starts one whose data are in this folder, and yields its URI; stops it at the end.

    :raises ContenderFailed: it does not come up.
    """
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield f"redis://127.0.0.1:{port}"
    finally:
        end(process)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                if link.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise ContenderFailed("redis-server did not come up")
