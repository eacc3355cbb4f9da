"""The end of the service that the other tests asked; this file runs last."""

import signal
import socket
import time

from tests.serve.load import row_of
from tests.serve.serving import Served


def test_told_twice_it_does_not_wait_and_leaves_nothing_all_the_same(served: Served) -> None:
    """A client that never sends the rest of its body would be waited for."""
    with socket.create_connection(("127.0.0.1", served.client.base_url.port or 0)) as idle:
        idle.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        served.predict(row_of(1))
        served.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert served.process.poll() is None
        left = served.stop(signal.SIGTERM)
    assert served.process.returncode == 0, served.log.read_text()
    assert "not waiting any longer" in served.log.read_text()
    assert served.process.returncode == 0, served.log.read_text()
    assert not left, "processes were left behind"
    assert "Traceback" not in served.log.read_text()
