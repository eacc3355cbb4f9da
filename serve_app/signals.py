"""What a running command is told by signals."""

import signal
import threading
from typing import Any


class Signals:
    """SIGINT and SIGTERM stop; the second of them stops the waiting too; SIGHUP reloads."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._reload = False
        self._hurried = False
        self.stop = False
        """Whether to stop."""

    def take(self) -> None:
        """Listens from now on, also where SIGINT was ignored so far.

        To be called again once Ray runs: it takes SIGTERM for itself when it starts.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._ask_for_reload)

    def wait(self, seconds: float | None = None) -> None:
        """Until there is something to do, or this long."""
        self._woken.wait(seconds)

    def take_reload(self) -> bool:
        """Whether to reload; says so once for each time it was asked."""
        if not self.stop:
            self._woken.clear()
        asked, self._reload = self._reload, False
        return asked

    def _stop(self, *_: Any) -> None:
        if not self.stop:
            self.stop = True
            self._woken.set()
        elif not self._hurried:  # once: what ends the processes must not be ended itself
            self._hurried = True
            raise KeyboardInterrupt

    def _ask_for_reload(self, *_: Any) -> None:
        self._reload = True
        self._woken.set()
