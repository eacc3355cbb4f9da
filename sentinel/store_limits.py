"""The bounds of a store of profiles in memory. Light to import."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store in memory keeps."""

    window: float = 600.0
    """Seconds in which the same transaction gets the stored answer."""
    identities: int = 500_000
    """Most identities; some 0.5 KB each."""
    labels: int = 500_000
    """Most transactions that a label still finds; some 0.5 KB each."""
    ttl: float = 180 * 86_400.0
    """Seconds after which an entity that is not written is forgotten."""
