"""The one way from transactions to decisions, and the one seam in it.

Everyone who scores, the ingress, a Kafka worker, training, does ``features -> lanes -> decide``.
They differ in where the lanes run, so that is the seam: ``Lanes``, *something that scores
features*. Here is the implementation in this process; ``deployments`` has the one whose models
stand behind Ray Serve handles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.calibration import NoveltyCalibration, SigmoidCalibration
from sentinel.dataset import DatasetDescription
from sentinel.decision import decide
from sentinel.errors import UnknownBundle
from sentinel.features import FeatureSet
from sentinel.runtime import TreeModel, anomaly_score, fraud_score
from sentinel.transactions import Transactions

FRAUD_LANE = "xgboost"
NOVELTY_LANE = "isolation_forest"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the lanes say of n rows: (n,) float64 in [0, 1], higher is more suspicious.

    ``fraud`` is the supervised lane's uncalibrated score, ``anomaly`` the novelty lane's; ``None``
    where a lane gave no answer.
    """

    fraud: NDArray[np.float64] | None
    anomaly: NDArray[np.float64] | None


class Lanes(Protocol):
    """Something that scores features (n, f) float32 with the models of one bundle.

    A lane that fails or is late is ``None`` in the result; it never raises for that.
    """

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        """``bundle`` is the digest of the bundle whose models must answer.

        :raises UnknownBundle: none of its models is of that bundle.
        """


@dataclass(frozen=True, slots=True)
class Decisions:
    """Answers to n transactions, as columns of the same order; all from one bundle.

    ``decision`` (n,) int8 codes (see ``decision.DECISIONS``); ``fraud_probability``,
    ``anomaly_score`` and ``novelty_p`` (n,) float64, NaN where the lane was missing; ``degraded``
    (n,) bool, true where something the answer rests on was.
    """

    ids: pa.StringArray
    decision: NDArray[np.int8]
    fraud_probability: NDArray[np.float64]
    anomaly_score: NDArray[np.float64]
    novelty_p: NDArray[np.float64]
    degraded: NDArray[np.bool_]
    model_version: str

    def __len__(self) -> int:
        return len(self.decision)

    def rows(self, start: int, stop: int) -> "Decisions":
        """The decisions on these rows; nothing is copied."""
        some = slice(start, stop)
        return Decisions(
            self.ids[some],
            self.decision[some],
            self.fraud_probability[some],
            self.anomaly_score[some],
            self.novelty_p[some],
            self.degraded[some],
            self.model_version,
        )


def join(parts: Sequence[Decisions]) -> Decisions:
    """All rows of one or more decisions of one bundle, in order."""
    if len(parts) == 1:
        return parts[0]
    return Decisions(
        pa.concat_arrays([part.ids for part in parts]),
        np.concatenate([part.decision for part in parts]),
        np.concatenate([part.fraud_probability for part in parts]),
        np.concatenate([part.anomaly_score for part in parts]),
        np.concatenate([part.novelty_p for part in parts]),
        np.concatenate([part.degraded for part in parts]),
        parts[0].model_version,
    )


class Lane:
    """One model of a bundle: features in, scores out."""

    def __init__(self, name: str, trees: TreeModel) -> None:
        self.name = name
        self._trees = trees
        self._to_score = {FRAUD_LANE: fraud_score, NOVELTY_LANE: anomaly_score}[name]

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores in [0, 1] for (n, f) features."""
        return self._to_score(self._trees.margin(features))


@dataclass(frozen=True, slots=True)
class Judge:
    """All of a bundle but its models: what comes before the lanes and after them."""

    digest: str
    description: DatasetDescription
    features: FeatureSet
    calibration: SigmoidCalibration
    novelty: NoveltyCalibration

    def decide(self, transactions: Transactions, scores: Scores) -> Decisions:
        """The decisions that follow from these scores."""
        probability = None if scores.fraud is None else self.calibration(scores.fraud)
        novelty_p = None if scores.anomaly is None else self.novelty(scores.anomaly)
        size = len(transactions)
        amount = self.amounts(transactions)
        return Decisions(
            ids=transactions.ids,
            decision=decide(self.description.policy, amount, probability, novelty_p),
            fraud_probability=_or_missing(probability, size),
            anomaly_score=_or_missing(scores.anomaly, size),
            novelty_p=_or_missing(novelty_p, size),
            degraded=np.full(size, scores.fraud is None or scores.anomaly is None),
            model_version=self.digest,
        )

    def amounts(self, transactions: Transactions) -> NDArray[np.float64]:
        """(n,) amounts, in the unit of the description."""
        column = list(self.description.numbers).index(self.description.amount)
        return transactions.numbers[:, column]

    async def score(self, transactions: Transactions, lanes: Lanes) -> Decisions:
        """The decisions on these transactions, wherever the lanes are."""
        return self.decide(transactions, await lanes(self.features(transactions), self.digest))


def _or_missing(column: NDArray[np.float64] | None, size: int) -> NDArray[np.float64]:
    return np.full(size, np.nan) if column is None else column


class LocalLanes:
    """Both lanes of one bundle in this process."""

    def __init__(self, digest: str, lanes: Mapping[str, Lane]) -> None:
        self._digest = digest
        self._lanes = dict(lanes)

    async def __call__(self, features: NDArray[np.float32], bundle: str) -> Scores:
        if bundle != self._digest:
            raise UnknownBundle("this process", bundle, self._digest)
        return self.score(features)

    def score(self, features: NDArray[np.float32]) -> Scores:
        """The same without an event loop, for files."""
        lanes = self._lanes
        return Scores(lanes[FRAUD_LANE].score(features), lanes[NOVELTY_LANE].score(features))


def score_offline(judge: Judge, lanes: LocalLanes, transactions: Transactions) -> Decisions:
    """The decisions in this process: the oracle that what is served is held to."""
    return judge.decide(transactions, lanes.score(judge.features(transactions)))
