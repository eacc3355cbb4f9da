"""The end of the service that the other tests asked; this file runs last."""

import signal

from tests.serve.load import row_of
from tests.serve.serving import Served


def test_sigterm_leaves_nothing_and_is_no_failure(served: Served) -> None:
    served.predict(row_of(1))
    left = served.stop(signal.SIGTERM)
    assert served.process.returncode == 0, served.log.read_text()
    assert not left, "processes were left behind"
    assert "Traceback" not in served.log.read_text()
