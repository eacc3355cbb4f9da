"""``sentinel serve`` checks before it starts, and says what to do when it has."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.serve.serving import Served, free_port, script

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"


def serve(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command where it must refuse to start."""
    command = [script("sentinel"), "serve", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_help_shows_an_example(tmp_path: Path) -> None:
    result = serve("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "sentinel serve --bundle bundles/transactions --port 8000" in result.stdout


def test_help_is_quick_because_ray_is_not_imported() -> None:
    code = "import sys, serve_app.commands; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_bundle_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = serve(cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert f"{tmp_path}/bundles/transactions" in line
    assert "there is no bundle" in line


def test_a_port_in_use_is_one_line_and_exit_code_1(
    transactions_bundle: str, taken_port: int, tmp_path: Path
) -> None:
    result = serve("--bundle", transactions_bundle, "--port", str(taken_port), cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert f"127.0.0.1:{taken_port}" in line
    assert "--port" in line


@pytest.mark.parametrize("arguments", [["missing.yaml"], ["--port", "0"], ["--bandle", "x"]])
def test_a_wrong_use_is_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    assert serve(*arguments, cwd=tmp_path).returncode == 2


def test_a_config_that_serve_refuses_is_one_line_and_exit_code_1(
    transactions_bundle: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG.read_text().replace("num_replicas: 1", "num_replicas: -1", 1))
    port = str(free_port())
    result = serve(str(file), "--bundle", transactions_bundle, "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert "num_replicas" in line


def test_an_application_that_cannot_be_deployed_is_one_line_and_exit_code_1(
    transactions_bundle: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG.read_text().replace("name: XGBoost", "name: XGBust"))
    port = str(free_port())
    result = serve(str(file), "--bundle", transactions_bundle, "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    problem, *_ = (line for line in lines(result.stderr) if line.startswith("sentinel:"))
    assert "XGBust" in problem
    assert "Traceback" not in result.stderr


def test_once_ready_it_prints_where_what_and_a_request_that_works(served: Served) -> None:
    said = served.log.read_text()
    assert served.url in said
    assert served.client.get("/model").json()["model_version"][:12] in said
    (line,) = (line for line in said.splitlines() if line.startswith("try: "))
    tried = subprocess.run(
        line.removeprefix("try: ").replace("curl", "curl -s"),
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert '"decision"' in tried.stdout


def test_it_listens_on_loopback_alone_but_for_the_replicas_grpc(served: Served) -> None:
    """Ray binds that one to every interface whatever is set; it asks for Ray's token."""
    listening = {
        (psutil.Process(pid).cmdline()[0], connection.laddr.ip, connection.laddr.port)
        for pid in served.family()
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    port = served.client.base_url.port
    assert any(at == ("127.0.0.1", port) for _, *address in listening for at in [tuple(address)])
    exposed = [entry for entry in listening if not entry[1].endswith("127.0.0.1")]
    assert all("ServeReplica" in name for name, _, _ in exposed), exposed
    assert len(exposed) <= 3
