"""The bounds of a store on Redis. Light to import."""

from dataclasses import dataclass

DAY = 86_400.0

BATCH = 512
"""Rows that are asked and answered in some 50 ms, a fifth of the deadline."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How long things live on Redis, how long it is waited for, and what is kept without it."""

    window: float = DAY
    """Seconds in which the same transaction gets the stored answer: a day is as long as payment
    services retry, and costs some 0.4 KB of Redis a transaction."""
    lease: float = 5.0
    """Seconds a claim is held for an answer: ten times what a batch may wait for its models."""
    ttl: float = 180 * DAY
    """Seconds after which an entity that is not written is forgotten: longer than the longest
    window is of no use."""
    labels: float = 60 * DAY
    """Seconds in which a label still finds its transaction: chargebacks take a month or two."""
    deadline: float = 0.25
    """Seconds a batch waits for Redis, each of its two trips; a payment waits no longer. One of
    more than ``BATCH`` rows has as much more time as it has more rows."""
    patience: float = 5.0
    """Seconds that labels, copies and the check at the start wait for a trip: nobody waits at a
    till for them."""
    unwritten: int = 20_000
    """Most records kept in this process for a Redis that cannot be written, some 0.5 KB each; past
    it the oldest are lost, and counted. Of two entities that is half a minute at 300 a second."""
    chunk: int = 500
    """Keys in one trip of a copy: 500 busy entities are 10 MB."""

    def deadline_of(self, rows: int) -> float:
        """Seconds a batch of so many rows waits, each trip."""
        return self.deadline * max(1.0, rows / BATCH)


DEFAULTS = RedisSettings()
