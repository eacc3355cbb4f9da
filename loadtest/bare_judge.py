"""Both models and what follows from their scores, with nothing around them.

What every contender but the product itself computes: written by hand for the ``creditcard`` fields,
no validation, no profiles, no other bundle. A contender adds its own way from bytes to numbers and
back.
"""

import bisect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.answers import Answer
from sentinel.bundle import open_bundle
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

BUNDLE = "SENTINEL_BENCH_BUNDLE"
"""The environment variable with the bundle's path: workers of most servers get nothing else."""

DECISIONS = ("approve", "review", "block")
FIELDS = (*(f"V{at}" for at in range(1, 29)), "Amount")


class Judged(NamedTuple):
    """(n,) each: the decision as its place in ``DECISIONS``, and what led to it."""

    codes: NDArray[np.intp]
    probability: NDArray[np.float64]
    anomaly: NDArray[np.float64]
    novelty: NDArray[np.float64]


class BareJudge:
    """Judges by the models of a bundle that ``bench_bundle`` wrote."""

    def __init__(self, uri: str) -> None:
        bundle = open_bundle(uri)
        manifest = bundle.manifest
        self._version = bundle.digest
        self._policy = manifest.policy
        self._fraud, self._forest = (
            TreeModel(bundle.files[manifest.models[lane].file])
            for lane in (FRAUD_LANE, NOVELTY_LANE)
        )
        self._window = np.frombuffer(bundle.files[manifest.novelty.file], "<f4").astype(np.float64)
        self._ascending = self._window.tolist()

    def one(self, name: str, values: Sequence[float]) -> Answer:
        """The answer for one transaction, its numbers in the order of ``FIELDS``."""
        features = np.array([[*values, math.log1p(values[-1])]], np.float32)
        margin = float(self._fraud.margin_small(features)[0])
        anomaly = 2.0 ** -(1 + float(self._forest.margin_small(features)[0]))
        return self.decided(name, 1 / (1 + math.exp(-margin)), anomaly, values[-1])

    def decided(self, name: str, probability: float, anomaly: float, amount: float) -> Answer:
        """The answer that follows from both scores."""
        size = len(self._ascending)
        at_least = size - bisect.bisect_left(self._ascending, anomaly)
        novelty = (1 + at_least) / (size + 1)
        code = self._decide(probability, novelty, amount)
        return self._answer(name, code, probability, anomaly, novelty)

    def many(self, numbers: NDArray[np.float64]) -> Judged:
        """(n, fields) numbers judged at once."""
        features = np.column_stack([numbers, np.log1p(numbers[:, -1])]).astype(np.float32)
        probability = 1 / (1 + np.exp(-self._fraud.margin(features)))
        anomaly = anomaly_score(self._forest.margin(features))
        return self.decided_many(probability, anomaly, numbers[:, -1])

    def decided_many(
        self,
        probability: NDArray[np.float64],
        anomaly: NDArray[np.float64],
        amount: NDArray[np.float64],
    ) -> Judged:
        """What follows from both scores of each."""
        size = len(self._window)
        novelty = (1 + size - np.searchsorted(self._window, anomaly)) / (size + 1)
        missed, blocked = self._costs(amount)
        costs = [
            probability * missed,
            self._review(probability, missed),
            (1 - probability) * blocked,
        ]
        codes = np.argmin(costs, axis=0)
        codes[(codes == 0) & (novelty < self._policy.novelty_review_below)] = 1
        return Judged(codes, probability, anomaly, novelty)

    def answers(self, names: Sequence[str], judged: Judged) -> list[Answer]:
        """An answer for each."""
        columns = (column.tolist() for column in judged)
        return [self._answer(*row) for row in zip(names, *columns, strict=True)]

    def _decide(self, probability: float, novelty: float, amount: float) -> int:
        missed, blocked = self._costs(amount)
        costs = (
            probability * missed,
            self._review(probability, missed),
            (1 - probability) * blocked,
        )
        code = costs.index(min(costs))
        return 1 if code == 0 and novelty < self._policy.novelty_review_below else code

    def _costs(self, amount: Any) -> tuple[Any, Any]:
        missed, blocked = self._policy.missed_fraud, self._policy.false_block
        return (
            missed.fixed + missed.per_amount * amount,
            blocked.fixed + blocked.per_amount * amount,
        )

    def _review(self, probability: Any, missed: Any) -> Any:
        policy = self._policy
        return policy.review_cost + probability * (1 - policy.review_catch_rate) * missed

    def _answer(self, name: str, code: int, p: float, anomaly: float, novelty: float) -> Answer:
        reasons = () if code == 0 else (f"fraud probability {p:.3g}",)
        return Answer(name, DECISIONS[code], p, anomaly, novelty, reasons, self._version, False)
