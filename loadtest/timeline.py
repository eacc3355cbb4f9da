"""What a load test saw second by second, as lines of JSON that are there while it runs."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from loadtest.exchanges import Kind
from loadtest.load import Load
from loadtest.tally import PERCENTILES, Tally, percentiles
from sentinel.errors import SentinelError


class Timeline:
    """Writes a line for each second, and hands it on to whoever else watches."""

    def __init__(
        self, load: Load, file: Path | None, also: Callable[[Mapping[Kind, Tally], float], None]
    ) -> None:
        """``file``: ``None`` to hand on only."""
        self._load, self._path, self._also = load, file, also
        self._file: TextIO | None = None
        self._open = ExitStack()
        self._seconds = 0.0
        self._before: dict[Kind, tuple[int, int, int, int, int]] = {}

    def __enter__(self) -> "Timeline":
        """:raises SentinelError: the file cannot be written."""
        if self._path is not None:
            try:
                self._file = self._open.enter_context(self._path.open("w", encoding="utf-8"))
            except OSError as error:
                problem = error.strerror or error
                raise SentinelError(f"{self._path}: cannot be written: {problem}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, tallies: Mapping[Kind, Tally], seconds: float) -> None:
        """The next second of the test has passed."""
        if self._file is not None:
            self._file.write(json.dumps(self._second(tallies, seconds)) + "\n")
            self._file.flush()
        self._also(tallies, seconds)

    def _second(self, tallies: Mapping[Kind, Tally], seconds: float) -> dict[str, Any]:
        """Counts and times of the answers that came since the last call."""
        passed = seconds - self._seconds
        none = (0, 0, 0, 0, 0)
        before = [self._before.get(kind, none) for kind in tallies]
        now = [
            (tally.requests, tally.failed, tally.shed, tally.transactions, tally.good)
            for tally in tallies.values()
        ]
        new = np.sum(now, axis=0) - np.sum(before, axis=0)
        since = (counts[-1] for counts in before)
        times = [tally.times(good) for tally, good in zip(tallies.values(), since, strict=True)]
        found = percentiles(np.concatenate(times), PERCENTILES)
        self._seconds, self._before = seconds, dict(zip(tallies, now, strict=True))
        requests, failed, shed, transactions, _ = (int(count) for count in new)
        return {
            "at": round(time.time(), 3),
            "seconds": round(seconds, 3),
            "passed": round(passed, 3),
            "users": self._load.users_at(seconds),
            "requests": requests,
            "failed": failed,
            "shed": shed,
            "transactions": transactions,
            **{
                f"p{percent}_ms": None if ms is None else round(ms, 3)
                for percent, ms in zip(PERCENTILES, found, strict=True)
            },
        }
