"""A pool that follows a queue counted from outside it, such as Kafka's lag."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.pool_size import BY_LAG, Backlog, PoolByLag, Progress
from sentinel.scaling import StageVerdict

BATCH = 500


@dataclass
class Pool:
    """Workers that take batches from a topic; as many as were decided for, at once."""

    pool: PoolByLag
    row_ms: float = 1.0
    batch_ms: float = 20.0
    lag: float = 0.0
    ended: float = 0.0
    at: float = 100.0
    workers: dict[str, Progress] = field(default_factory=dict)
    verdicts: list[StageVerdict] = field(default_factory=list)
    started: int = 0

    def seconds(self, count: int, rate: float, *, known: bool = True) -> int:
        """How many workers there are when so many seconds of this rate have passed."""
        for _ in range(count):
            self.at += 1
            self.lag += rate
            self.ended += rate
            for name, one in self.workers.items():
                a_batch = BATCH * self.row_ms / 1000 + self.batch_ms / 1000
                rows = min(self.lag, BATCH / a_batch)
                self.lag -= rows
                batches = max(1.0, rows / BATCH) if rows else 0.0
                busy = rows * self.row_ms / 1000 + batches * self.batch_ms / 1000
                self.workers[name] = Progress(
                    self.at, one.busy + busy, one.batches + batches, one.rows + rows
                )
            backlog = Backlog(self.lag, self.ended) if known else None
            verdict = self.pool.decide(self.at, backlog, self.workers)
            self.verdicts.append(verdict)
            self._have(verdict.target)
        return len(self.workers)

    def _have(self, count: int) -> None:
        for name in list(self.workers)[count:]:
            del self.workers[name]
        while len(self.workers) < count:
            self.started += 1
            self.workers[f"w{self.started}"] = Progress(self.at, 0.0, 0.0, 0.0)


def test_a_pool_grows_to_what_arrives_and_shrinks_when_it_is_over() -> None:
    pool = Pool(PoolByLag(1, 8))
    assert pool.seconds(60, 100) == 1
    # A worker passes some 900 rows a second.
    assert 4 <= pool.seconds(60, 2_500) <= 8
    assert pool.lag < 2_500
    assert pool.seconds(400, 100) == 1


def test_a_backlog_from_before_is_caught_up_by_all_it_may_have() -> None:
    pool = Pool(PoolByLag(1, 4), lag=200_000, ended=200_000)
    assert pool.seconds(40, 10) == 4
    assert pool.seconds(200, 10) < 4
    assert pool.lag < 1_000


def test_while_the_broker_does_not_answer_nothing_moves() -> None:
    pool = Pool(PoolByLag(1, 8))
    before = pool.seconds(120, 2_500)
    assert before > 1
    assert pool.seconds(300, 0, known=False) == before
    assert pool.verdicts[-1].reason == "holds: the backlog is not known"


def test_a_topic_made_anew_is_looked_at_twice_before_anything_moves() -> None:
    pool = Pool(PoolByLag(1, 8))
    before = pool.seconds(120, 2_500)
    pool.ended = pool.lag = 0.0
    assert pool.seconds(1, 0) == before
    assert pool.verdicts[-1].reason == "holds: the rate is not known yet"
    assert pool.seconds(int(BY_LAG.shrink_seconds) - 5, 0) == before


@pytest.mark.parametrize("bounds", [(0, 2), (3, 2)])
def test_bounds_that_cannot_be_meant_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 <= lowest <= highest"):
        PoolByLag(*bounds)


@given(st.lists(st.floats(0, 5_000), min_size=1, max_size=12), st.floats(0.1, 5))
@settings(max_examples=25)
def test_there_are_never_more_or_fewer_than_allowed(rates: list[float], row_ms: float) -> None:
    pool = Pool(PoolByLag(2, 5), row_ms)
    for rate in rates:
        pool.seconds(10, rate)
    assert {2 <= verdict.target <= 5 for verdict in pool.verdicts} == {True}


@given(st.floats(10, 3_000), st.floats(0.2, 2))
@settings(max_examples=25)
def test_a_steady_rate_changes_nothing_once_it_is_met(rate: float, row_ms: float) -> None:
    pool = Pool(PoolByLag(1, 50), row_ms)
    pool.seconds(600, rate)
    met = len(pool.workers)
    assert pool.seconds(300, rate) == met
    assert [verdict for verdict in pool.verdicts[-300:] if verdict.changed] == []
