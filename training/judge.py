"""Judging decisions against labels: one piece for ``evaluate`` and for training's own backtest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import Policy
from sentinel.decision import DECISIONS, decide, regret
from sentinel.features import feature_set
from sentinel.runtime import TreeModel
from sentinel.scoring import Judge, Lane, LocalLanes
from sentinel.table import LabelledTable
from sentinel.transactions import Transactions
from training.fit import Features, Fitted, training_threads
from training.quality import Quality, measure, rank_quality


@dataclass(frozen=True, slots=True)
class Judged:
    """n labelled rows as a bundle's models saw them, in time order."""

    labels: NDArray[np.int8]
    amounts: NDArray[np.float64]
    fraud_score: NDArray[np.float64]
    probability: NDArray[np.float64]
    anomaly: NDArray[np.float64]
    novelty_p: NDArray[np.float64]
    decision: NDArray[np.int8]
    policy: Policy

    def regret(self) -> NDArray[np.float64]:
        """(n,) cost of the decisions above that of perfect ones."""
        return regret(self.policy, self.amounts, self.decision, self.labels)

    def quality(self, resamples: int = 500) -> Quality:
        """The product's figures of both lanes together, as they decide."""
        return measure(self.labels, self.probability, self.regret(), resamples=resamples)

    def decisions(self) -> dict[str, dict[str, int]]:
        """How many rows, and how many frauds among them, got each decision."""
        counts = {}
        for code, name in enumerate(DECISIONS):
            rows = self.decision == code
            counts[name] = {"rows": int(rows.sum()), "frauds": int(self.labels[rows].sum())}
        return counts

    def lanes(self, resamples: int = 500) -> dict[str, dict[str, Any]]:
        """Each lane alone: how it ranks, and what deciding by it alone would have cost."""
        return {
            "xgboost": self._lane(self.fraud_score, self.probability, None, resamples),
            "isolation_forest": self._lane(
                self.anomaly, np.zeros(len(self.labels)), self.novelty_p, resamples
            ),
        }

    def _lane(
        self,
        score: NDArray[np.float64],
        probability: NDArray[np.float64],
        novelty_p: NDArray[np.float64] | None,
        resamples: int,
    ) -> dict[str, Any]:
        ranks = rank_quality(self.labels, score, resamples=resamples)
        decided = decide(self.policy, self.amounts, probability, novelty_p)
        cost = regret(self.policy, self.amounts, decided, self.labels)
        figures: dict[str, Any] = {name: figure.as_dict() for name, figure in ranks.items()}
        return {**figures, "regret_per_1000": 1000 * float(cost.mean())}


def judge_rows(
    judge: Judge,
    lanes: LocalLanes,
    transactions: Transactions,
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
) -> Judged:
    """These transactions scored in this process and set beside their labels."""
    scores = lanes.score(features)
    decisions = judge.decide(transactions, scores)
    assert scores.fraud is not None  # in this process no lane can be missing
    assert scores.anomaly is not None
    return Judged(
        labels=labels,
        amounts=judge.amounts(transactions),
        fraud_score=scores.fraud,
        probability=decisions.fraud_probability,
        anomaly=scores.anomaly,
        novelty_p=decisions.novelty_p,
        decision=decisions.decision,
        policy=judge.description.policy,
    )


def judged_by(fitted: Fitted, table: LabelledTable, features: Features, rows: slice) -> Judged:
    """These rows of a table, whose (n, f) features are given, judged by models not yet a bundle."""
    name = "backtest"
    build = feature_set(table.description)
    judge = Judge(name, table.description, build, fitted.calibration, fitted.novelty)
    threads = training_threads(features)
    lanes = {
        lane: Lane(lane, TreeModel(model, threads=threads)) for lane, model in fitted.models.items()
    }
    return judge_rows(
        judge,
        LocalLanes(name, lanes),
        table.transactions.take(rows),
        features[rows],
        table.labels[rows],
    )
