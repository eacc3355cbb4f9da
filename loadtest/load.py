"""What is put on a service, and what came of it; pure, so that no one who reads it needs Locust."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.exchanges import KINDS, Kind
from loadtest.tally import Tally

LoadKind = Literal["single", "json", "arrow", "mixed"]


@dataclass(frozen=True, slots=True)
class Load:
    """What is put on a service."""

    users: int
    """Each has one request under way at a time."""
    duration: float
    """Seconds that are counted; requests then under way are waited for."""
    kind: LoadKind
    rows: int
    """Of a batch."""
    seed: int
    spawn_rate: float | None = None
    """Users that start in a second; ``None`` for all at once."""
    warm_up: float = 0.0
    """Seconds before the first request that counts."""
    timeout: float = 10.0
    """Seconds to wait for an answer."""

    @property
    def kinds(self) -> Sequence[Kind]:
        return KINDS if self.kind == "mixed" else (self.kind,)


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What came of it."""

    tallies: Mapping[Kind, Tally]
    details: Mapping[str, str]
    """What the service first said of each problem."""
    seconds: float
    """From the first request that counts to the last answer."""
    busy: float
    """Share of that time this process computed: near 1 it could not have sent more."""
    ended_early: bool
    report: str | None
    """Locust's report, an HTML page, where it was asked for."""
