"""What is put on a service, and what came of it; pure, so that no one who reads it needs Locust."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.exchanges import KINDS, Kind
from loadtest.shapes import Shape, mean_share, users_at
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
    pause: float = 0.0
    """Seconds a user waits after an answer before it sends again, on average."""
    shape: Shape = Shape.STEADY
    """The course of the load over the seconds that are counted; before them it is as at first."""

    def users_at(self, seconds: float) -> int:
        """How many users there are when so many of the seconds that count have passed."""
        return users_at(self.shape, self.users, seconds / self.duration)

    @property
    def mean_users(self) -> float:
        """How many users there are on average."""
        return self.users * mean_share(self.shape)

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
