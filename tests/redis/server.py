"""Redis servers for the tests, each by its process id."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis


class RedisServer:
    """A ``redis-server`` of our own on a free port of the loopback address."""

    def __init__(self, folder: Path, *options: str, **access: Any) -> None:
        """``options`` of the server; ``access``: what a client needs to get in."""
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._access = access
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where it is, without a password."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> "RedisServer":
        """Starts it, again if it was killed, and waits until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: apt-get install redis-server"
        port = () if "--tls-port" in self._options else ("--port", str(self.port))
        command = [program, *port, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        log = ("--logfile", str(self.folder / "redis.log"))
        self._process = subprocess.Popen([*command, *log, *self._options])
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "redis.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)
        return self

    def client(self) -> "redis.Redis[bytes]":
        """To look into it, and to spoil it."""
        return redis.Redis(host="127.0.0.1", port=self.port, **self._access)

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Connections stay, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def free_port() -> int:
    """A port nobody listens on now; below 55536, so that a cluster's bus port exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_536:
            return port
