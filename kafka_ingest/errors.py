"""What ends a worker. What only makes it wait, or do its last records again, is no error."""

from sentinel.errors import SentinelError


class WorkerFailed(SentinelError):
    """A worker cannot go on; a new one in its place may. Nothing is lost by it."""


class Fenced(WorkerFailed):
    """Another worker has this one's transactional id: whatever this one still does is refused."""


class ScoringFailed(SentinelError):
    """The application failed at these transactions, and not for want of room or of a replica."""


class Aborted(Exception):
    """The transaction cannot be completed: it is to be aborted, and its records done again."""
