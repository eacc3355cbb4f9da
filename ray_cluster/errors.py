"""What can go wrong between this product and a cluster: a branch of ``sentinel.errors``.

Policy: an error says what was asked of which object, what the cluster or the tool said, and what to
do about it. Nothing here is retried in silence: ``wait`` alone waits.
"""

from collections.abc import Sequence

from sentinel.errors import SentinelError


class ClusterError(SentinelError):
    """Anything that a cluster, or a tool that speaks to it, makes impossible."""


class CannotReach(ClusterError):
    """No kubeconfig, no API server behind it, or an account that it does not know."""


class CannotRender(ClusterError):
    """The chart with these values is no valid set of objects; says which value and why."""


class RefusedByCluster(ClusterError):
    """The API server would not take some objects. ``refusals`` holds a line each."""

    def __init__(self, doing: str, refusals: Sequence[str]) -> None:
        self.refusals = tuple(refusals)
        head = refusals[0] if len(refusals) == 1 else f"{len(refusals)} objects were refused"
        rest = "".join(f"\n  {line}" for line in refusals) if len(refusals) > 1 else ""
        super().__init__(f"{doing}: {head}{rest}")


class KeptByArgo(ClusterError):
    """Argo CD keeps the object as Git has it and would undo a change; says what to commit."""


class NotReady(ClusterError):
    """A wait ended too early. ``reasons`` holds what was seen to be in the way, a line each."""

    def __init__(self, waited_for: str, seconds: float, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "".join(f"\n  {line}" for line in reasons) or "\n  nothing unusual was seen"
        super().__init__(f"{waited_for} after {seconds:.0f} s:{lines}")
