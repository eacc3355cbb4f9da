"""The small Redis of a trial, started by the chart's own line."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as Unreachable

from tests.chart.rendering import Object, one
from tests.serve.serving import free_port

PASSWORD = "s3cret#/@:word"


@pytest.fixture
def port(trial: list[Object], tmp_path: Path) -> Iterator[int]:
    """The port of one that runs as its pod would run it, but for port and folder."""
    (container,) = one(trial, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    port = free_port()
    (script,) = container["args"]
    own = script.replace("/data", str(tmp_path)).replace("'*'", f"127.0.0.1 --port {port}")
    process = subprocess.Popen(
        [*container["command"], own], env={"REDIS_PASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"}
    )
    try:
        yield port
        assert process.poll() is None
    finally:
        process.terminate()  # as a kubelet does; the shell has become redis-server
        assert process.wait(20) == 0


def ready(port: int) -> Redis:
    client = Redis(port=port, password=PASSWORD)
    for _ in range(100):
        try:
            client.ping()
            return client
        except Unreachable:
            time.sleep(0.1)
    raise AssertionError("it does not start")


def test_it_asks_for_the_password_and_keeps_each_write(port: int) -> None:
    client = ready(port)
    with pytest.raises(AuthenticationError):
        Redis(port=port).ping()
    config = client.config_get()
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
    assert config["maxmemory-policy"] == "noeviction"
    assert int(config["maxmemory"]) == 384 * 2**20
    assert config["save"] == ""
