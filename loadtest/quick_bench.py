"""Whether the service is still as fast beside the limit as the committed figures say.

The limit and the service alone, side by side in short rounds: to find that a change made something
slow, not to say how fast it is. A machine that others use too moves even the ratio, so it may fall
a good part below the committed one before it counts; the bands are those that unchanged code
stayed within (see ``docs/benchmarks.md``).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from loadtest.cells import ARROW_1000, JSON_1000, SINGLE_1, SINGLE_64, ServeBench
from loadtest.contenders import RECIPES
from loadtest.goals import Table
from loadtest.serve_bench import NEEDED, Plan, measure_side_by_side
from loadtest.serving_report import report
from sentinel.errors import SentinelError, UsageError

QUICK = Plan(rounds=3, seconds=1, warm_up=1)
SHAPES = (SINGLE_1, SINGLE_64, JSON_1000, ARROW_1000)

RATE_BAND = 0.6
"""Requests a second beside the limit may fall to this share of the committed ratio. Five runs of
unchanged code on a shared machine came to between 0.71 and 2.18 times it."""

WORK_BAND = 0.6
"""The limit's processor time a request, for each of the service's, may fall to this share. The same
five runs: 0.65 to 1.36 times. It is steadier from run to run, yet not steady: who shares a core's
cache and threads also uses up its time."""


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
    recipes = {name: RECIPES[name] for name in NEEDED}
    return report(measure_side_by_side(on_step, QUICK, recipes, SHAPES))


def read_result(file: Path) -> ServeBench:
    """What ``sentinel bench`` wrote.

    :raises UsageError: it is no such file.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=ServeBench)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{file} is no result of sentinel bench: {error}") from error


def banded(bench: ServeBench) -> dict[str, tuple[float, float]]:
    """Each ratio that is compared, with its band: the service's requests a second for each of the
    limit's, and the limit's processor time a request for each of the service's. More is better."""
    rows = [*(row for row in bench.contenders.values() if row is not None), *bench.rows]
    found = {(row.contender, row.shape, row.connections): row for row in rows}
    ratios = {}
    for shape in SHAPES:
        own, limit = (
            found.get((name, shape.name, shape.connections)) for name in ("sentinel", "limit")
        )
        if own is None or limit is None:
            continue
        rate = own.requests_per_s / limit.requests_per_s
        ratios[f"sentinel/limit, {shape}"] = round(rate, 3), RATE_BAND
        if own.cpu_us and limit.cpu_us:
            work = limit.cpu_us / own.cpu_us
            ratios[f"limit/sentinel, {shape}, processor time"] = round(work, 3), WORK_BAND
    return ratios


def compare(committed: ServeBench, measured: ServeBench) -> list[Compared]:
    """Each ratio that both have.

    :raises UsageError: there is none.
    """
    before, now = banded(committed), banded(measured)
    found = [
        Compared(name, ratio, now[name][0], round(share * ratio, 3))
        for name, (ratio, share) in before.items()
        if name in now
    ]
    if not found:
        raise UsageError("the committed result has no ratio of the service to the limit")
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
