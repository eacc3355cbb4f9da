"""Whether the service is still as fast beside the limit as the committed figures say.

The limit and the service alone, in two short rounds: to find that a change made something slow,
not to say how fast it is. A machine that others use too moves even the ratio, so it may fall
a good part below the committed one before it counts; the bands are those that unchanged code
stayed within (see ``docs/benchmarks.md``).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from loadtest.cells import ServeBench
from loadtest.contenders import apart, limit
from loadtest.goals import Table
from loadtest.serve_bench import Plan, measure_turns
from loadtest.serving_report import report
from sentinel.errors import SentinelError, UsageError

QUICK = Plan(rounds=2, seconds=2, warm_up=1, further=False)

BANDS: Mapping[str, float] = {
    "sentinel/limit, single, 1 connections": 0.5,
    "sentinel/limit, single, 64 connections": 0.6,
    "sentinel/limit, single, 128 connections": 0.6,
    "sentinel/limit, json-1000, 4 connections": 0.6,
    "sentinel/limit, arrow-1000, 4 connections": 0.6,
}
"""By ratio: the least share of the committed one that passes."""


class Slower(SentinelError):
    """The service fell below a band; says which ratio, and by how much."""


class Compared(msgspec.Struct, frozen=True):
    """A ratio now and as committed; ``least`` is what passes."""

    ratio: str
    committed: float
    measured: float
    least: float

    @property
    def passes(self) -> bool:
        """Whether it is within the band; better than committed always is."""
        return self.measured >= self.least


def measure_quickly(on_step: Callable[[str], None] = lambda _: None) -> ServeBench:
    """The limit and the service alone."""
    recipes = {"limit": limit, "sentinel": apart}
    return report(measure_turns(on_step, QUICK, recipes))


def committed_ratios(file: Path) -> dict[str, float]:
    """Of a result that ``sentinel bench`` wrote.

    :raises UsageError: it is none.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=ServeBench).ratios
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{file} is no result of sentinel bench: {error}") from error


def compare(
    committed: Mapping[str, float],
    measured: Mapping[str, float],
    bands: Mapping[str, float] = BANDS,
) -> list[Compared]:
    """Each banded ratio that both have.

    :raises UsageError: there is none.
    """
    found = [
        Compared(name, committed[name], measured[name], round(share * committed[name], 3))
        for name, share in bands.items()
        if name in committed and name in measured
    ]
    if not found:
        raise UsageError(f"the committed result has none of the ratios {', '.join(bands)}")
    return found


def check_bands(compared: Sequence[Compared]) -> None:
    """:raises Slower: one is below its band."""
    low = [each for each in compared if not each.passes]
    if low:
        said = "; ".join(f"{e.ratio} is {e.measured:.3f}, expected {e.least:.3f}" for e in low)
        raise Slower(f"slower than committed: {said}")


def compared_table(compared: Sequence[Compared]) -> Table:
    """A row a ratio."""
    columns = ["ratio", "committed", "least that passes", "now"]
    return columns, [
        [each.ratio, f"{each.committed:.3f}", f"{each.least:.3f}", f"{each.measured:.3f}"]
        for each in compared
    ]
