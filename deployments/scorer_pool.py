"""Work for scorers: Ray tasks, each a batch of rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray

from deployments.scorer import Scorer
from sentinel.bundle import Bundle

AHEAD = 2
"""Batches given out beyond one for each processor: the next is there when one is done."""
SCORER_CPUS = 0.75
"""Processors that a batch asks for: what it leaves is for readers."""
RETRIES = 3
"""How often a batch is given out again whose worker died."""

Done = Callable[[Any], None]

_held: dict[str, Scorer] = {}
"""The scorer of this worker's process, by its bundle's digest: models are loaded once."""


class ScorerPool:
    """Takes batches as they come and has them scored, so many at once.

    Scorers keep nothing, so a batch may be done twice, and by whoever has time.
    """

    def __init__(self, bundle: Bundle, cpus: int) -> None:
        self._digest = bundle.digest
        # Without the profiles, which no scorer needs.
        profiles = bundle.manifest.profiles
        files = {k: v for k, v in bundle.files.items() if profiles is None or k != profiles.file}
        self._bundle = ray.put(replace(bundle, files=files))
        self._most = cpus + AHEAD
        self._call: Any = ray.remote(num_cpus=SCORER_CPUS, max_retries=RETRIES)(_call)
        self._under_way: dict[Any, Done] = {}

    def submit(self, method: str, *arguments: Any, done: Done) -> None:
        """Gives out a batch, once there is room for it; ``done`` is called with the answer, some
        time later, in this thread."""
        while len(self._under_way) >= self._most:
            self._take()
        # In a list the bundle stays where it is until a worker lacks it.
        reference = self._call.remote(method, self._digest, [self._bundle], *arguments)
        self._under_way[reference] = done

    def drain(self) -> None:
        """Waits for all that was given out."""
        while self._under_way:
            self._take()

    def _take(self) -> None:
        """Waits for one batch to be done."""
        (ready,), _ = ray.wait(list(self._under_way), num_returns=1)
        self._under_way.pop(ready)(ray.get(ready))


def _call(method: str, digest: str, bundle: list[Any], *arguments: Any) -> Any:
    """A scorer's answer, in a worker."""
    if digest not in _held:
        _held.clear()
        _held[digest] = Scorer(ray.get(bundle[0]))
    return getattr(_held[digest], method)(*arguments)
