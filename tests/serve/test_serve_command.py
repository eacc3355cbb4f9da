"""``sentinel serve`` checks before it starts, and says what to do when it has."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.serve.serving import Served, Stage, environment, free_port, script

CONFIG = Path(__file__).parents[2] / "serve_app" / "config.yaml"


def serve(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command where it must refuse to start."""
    command = [script("sentinel"), "serve", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
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
    file.write_text(CONFIG.read_text().replace("min_replicas: 1", "min_replicas: -1", 1))
    port = str(free_port())
    result = serve(str(file), "--bundle", transactions_bundle, "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert "min_replicas" in line


def test_an_application_that_cannot_be_deployed_is_one_line_and_exit_code_1(
    stage: Stage, transactions_bundle: str, tmp_path: Path
) -> None:
    stage.clear()
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG.read_text().replace("name: XGBoost", "name: XGBust"))
    port = str(free_port())
    result = serve(str(file), "--bundle", transactions_bundle, "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    problem, *_ = (line for line in lines(result.stderr) if line.startswith("sentinel:"))
    assert "XGBust" in problem
    assert "Traceback" not in result.stderr


def test_once_ready_it_prints_where_what_and_a_request_that_works(served: Served) -> None:
    deadline = time.monotonic() + 20
    while "try: " not in (said := served.log.read_text()):  # it answers a moment before it says so
        assert time.monotonic() < deadline
        time.sleep(0.1)
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


def listening(served: Served) -> set[tuple[str, int, str, int]]:
    """Name of the program, its pid, address and port of all that listens."""
    found = set()
    for pid in served.family():
        with suppress(psutil.NoSuchProcess):  # it has ended since
            process = psutil.Process(pid)
            name = (process.cmdline() or [""])[0]  # one that has just ended has none
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((name, pid, connection.laddr.ip, connection.laddr.port))
    return found


def test_ours_and_serves_ingress_listen_on_loopback_alone(served: Served) -> None:
    """What listens on every interface, because Ray has no setting for it, is named here and in
    docs/serving.md: HAProxy's statistics (8404) and metrics (9101), and each replica's gRPC port,
    which asks for Ray's token."""
    found = listening(served)
    api = served.client.base_url.port
    assert any(
        "haproxy" in name and (at, port) == ("127.0.0.1", api) for name, _, at, port in found
    ), found
    routers = {pid for name, pid, *_ in found if "FraudRouter" in name}
    ingress = [
        (pid, at) for name, pid, at, port in found if 30_000 <= port <= 31_000 and "Replica" in name
    ]
    assert ingress
    assert {at for _, at in ingress} == {"127.0.0.1"}, "HAProxy reaches each router there"
    by_router = [pid for pid, _ in ingress]
    assert len(by_router) == len(set(by_router) & routers), "one a router, and of nobody else"
    exposed = {entry for entry in found if not entry[2].endswith("127.0.0.1")}
    haproxy = {port for name, _, _, port in exposed if "haproxy" in name}
    assert haproxy == {8404, 9101}, exposed
    grpc = [(name, pid) for name, pid, _, port in exposed if port not in haproxy]
    assert all("ServeReplica" in name for name, _ in grpc), exposed
    # One of each deployment at least; on a busy machine there may be more just now.
    assert len({name for name, _ in grpc}) == 4, exposed
    assert len(grpc) == len({pid for _, pid in grpc}), "one port a replica"


def test_another_ray_in_the_way_is_one_line_and_exit_code_1(
    served: Served, transactions_bundle: str, tmp_path: Path
) -> None:
    port = str(free_port())
    result = serve("--bundle", transactions_bundle, "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert "another Ray cluster runs on this machine" in line


def test_another_address_without_keys_is_refused_in_one_line(
    transactions_bundle: str, tmp_path: Path
) -> None:
    result = serve("--bundle", transactions_bundle, "--host", "0.0.0.0", cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert "--api-keys" in line
    assert "--allow-anonymous" in line


def test_a_file_that_is_not_of_keys_is_one_line_and_exit_code_1(
    transactions_bundle: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys: nonsense")
    result = serve("--bundle", transactions_bundle, "--api-keys", str(file), cwd=tmp_path)
    assert result.returncode == 1
    (line,) = lines(result.stderr)
    assert str(file) in line


def test_a_key_is_printed_once_and_its_hash_kept(tmp_path: Path) -> None:
    command = [script("sentinel"), "key", "--name", "checkout", "--scopes", "score,read"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (key,) = lines(made.stdout)
    assert key not in made.stderr + (tmp_path / "api-keys.yaml").read_text()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    wrong = subprocess.run(
        [*command[:-1], "root"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "score, label, read" in wrong.stderr


def test_the_recommended_environment_is_printed_for_a_shell(tmp_path: Path) -> None:
    printed = serve("--print-env", cwd=tmp_path).stdout
    shell = subprocess.run(
        ["sh", "-c", f"{printed}\necho $RAY_SERVE_ENABLE_HA_PROXY $OMP_NUM_THREADS"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == "1 1\n"
