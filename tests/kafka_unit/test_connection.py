"""What a client is told of the cluster, and what a person of a mistake."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Producer

from kafka_ingest.connection import RESERVED, Connection, KafkaFailed, read_properties
from sentinel.errors import UsageError

SECRET = "hunter2-and-more"


def a_file(folder: Path, text: str) -> Path:
    file = folder / "client.properties"
    file.write_text(text)
    return file


def test_a_file_of_settings_is_passed_on_as_it_stands(tmp_path: Path) -> None:
    file = a_file(
        tmp_path,
        "# a remark\n! another\n\nbootstrap.servers = a:1,b:2\n"
        "sasl.password=x=y#z\\\nclient.rack=\n",
    )
    assert Connection.of(None, file).client()["bootstrap.servers"] == "a:1,b:2"
    settings = read_properties(file)
    assert settings == {
        "bootstrap.servers": "a:1,b:2",
        "sasl.password": "x=y#z\\",
        "client.rack": "",
    }
    assert Connection.of("c:3", file).servers == "c:3"


def test_secrets_come_from_the_environment_and_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(SECRET + "\n")
    monkeypatch.setenv("KAFKA_USER", "sentinel")
    text = f"sasl.username=${{env:KAFKA_USER}}\nsasl.password=${{file:{tmp_path}/password}}\n"
    settings = read_properties(a_file(tmp_path, text))
    assert settings == {"sasl.username": "sentinel", "sasl.password": SECRET}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"sasl.password {SECRET}", "line 1: expected name=value"),
        (f"a=b\nsasl.password={SECRET}\nsasl.password={SECRET}", "line 3: sasl.password is given"),
        (f"sasl.password={SECRET}${{env:NOT_THERE}}", "sasl.password: there is no environment var"),
        (f"sasl.password={SECRET}${{file:/not/there}}", "sasl.password: file /not/there: No such"),
    ],
)
def test_a_mistake_in_the_file_is_named_without_its_secrets(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read_properties(a_file(tmp_path, text))
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_setting_that_a_promise_rests_on_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"line 1: {name} cannot be set"):
        read_properties(a_file(tmp_path, f"{name}=whatever\n"))


def test_a_connection_shows_no_secret() -> None:
    shown = repr(Connection({"bootstrap.servers": "a:1", "sasl.password": SECRET}))
    assert shown == "Connection('a:1', PLAINTEXT)"


def test_nowhere_to_connect_to_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"--bootstrap-servers: missing; expected HOST:PORT"):
        Connection.of(None)


def test_a_setting_that_librdkafka_does_not_know_is_a_mistake() -> None:
    connection = Connection({"bootstrap.servers": "a:1", "sasl.pasword": SECRET})
    with pytest.raises(UsageError, match=r'--config: No such configuration.*"sasl.pasword"') as no:
        connection.open(Producer)
    assert SECRET not in str(no.value)


def test_a_cluster_that_is_not_there_is_named() -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(KafkaFailed, match=f"{where}: no answer in .* expected a Kafka broker"):
            Connection.of(where).reach(timeout=1)


def test_oauthbearer_is_passed_on_and_librdkafka_asks_for_the_token() -> None:
    """No broker here knows OAUTHBEARER: that the token is asked for is all that is shown."""
    asked: list[str] = []
    came = threading.Event()

    class Tokens(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            asked.append(self.headers["Authorization"] + " " + self.rfile.read(size).decode())
            content = json.dumps({"error": "no tokens today"}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            came.set()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "bootstrap.servers": "127.0.0.1:1",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "sentinel",
        "sasl.oauthbearer.client.secret": "x",
        "sasl.oauthbearer.scope": "fraud",
        "sasl.oauthbearer.token.endpoint.url": f"http://127.0.0.1:{server.server_port}/token",
    }
    producer = Connection(settings).open(Producer)
    assert came.wait(20)
    server.shutdown()
    server.server_close()
    assert asked[0].startswith("Basic c2VudGluZWw6eA==")
    assert "scope=fraud" in asked[0]
    del producer


def test_a_client_certificate_is_passed_on_and_shown_to_the_broker(tmp_path: Path) -> None:
    """No broker here asks for one: what comes is seen by a bare TLS server."""
    for name in ("server", "client"):
        new = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2"
        made = f"{new} -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        files = f"-keyout {tmp_path}/{name}.key -out {tmp_path}/{name}.crt"
        subprocess.run(f"{made} {files}".split(), check=True, capture_output=True)
    shown = handshake(
        tmp_path,
        lambda port: Connection(
            {
                "bootstrap.servers": f"127.0.0.1:{port}",
                "security.protocol": "SSL",
                "ssl.ca.location": f"{tmp_path}/server.crt",
                "ssl.certificate.location": f"{tmp_path}/client.crt",
                "ssl.key.location": f"{tmp_path}/client.key",
            }
        ),
    )
    assert shown == ((("commonName", "client"),),)


def handshake(folder: Path, connect: Callable[[int], Connection]) -> object:
    """The subject of the certificate that a client shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.load_verify_locations(folder / "client.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        producer = connect(listening.getsockname()[1]).open(Producer)
        listening.settimeout(20)
        plain, _ = listening.accept()
        with context.wrap_socket(plain, server_side=True) as secure:
            certificate = secure.getpeercert()
    del producer
    assert certificate
    return certificate["subject"]
