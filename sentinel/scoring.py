"""The one way from transactions to decisions, and the one seam in it.

Everyone who scores, the ingress, a Kafka worker, training, does ``features -> lanes -> decide``.
They differ in where the lanes run, so that is the seam: ``Lanes``, *something that scores
features*. Here is the implementation in this process; ``deployments`` has the one whose models
stand behind Ray Serve handles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.calibration import NoveltyCalibration, SigmoidCalibration
from sentinel.dataset import DatasetDescription
from sentinel.decision import decide, reasons
from sentinel.errors import UnknownBundle
from sentinel.features import FeatureSet
from sentinel.reasons import Explainer
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
    """Answers to n transactions, as columns of the same order; each from one bundle.

    ``decision`` (n,) int8 codes (see ``decision.DECISIONS``); ``fraud_probability``,
    ``anomaly_score`` and ``novelty_p`` (n,) float64, NaN where the lane was missing; ``reasons``
    (n,) tuples of strings; ``model_version`` (n,) strings, each the digest of the bundle that gave
    the answer; ``degraded`` (n,) bool, true where something the answer rests on was missing.
    """

    ids: pa.StringArray
    decision: NDArray[np.int8]
    fraud_probability: NDArray[np.float64]
    anomaly_score: NDArray[np.float64]
    novelty_p: NDArray[np.float64]
    reasons: NDArray[np.object_]
    model_version: NDArray[np.object_]
    degraded: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.decision)

    def take(self, rows: NDArray[np.intp] | slice) -> "Decisions":
        """The decisions on these rows; of a slice nothing is copied."""
        ids = self.ids[rows] if isinstance(rows, slice) else self.ids.take(pa.array(rows))
        return Decisions(ids, *(column[rows] for column in self._columns()))

    def _columns(self) -> list[NDArray[Any]]:
        """All but the ids, in order."""
        return [getattr(self, name) for name in self.__slots__[1:]]


StoredAnswer = tuple[int, float, float, float, tuple[str, ...], str]
"""A whole answer: decision code, fraud probability, anomaly score, novelty p, reasons, version."""


def stored_answers(decisions: Decisions) -> list[StoredAnswer | None]:
    """Each row's answer as it is kept for whoever sends the same again; ``None`` if degraded."""
    columns = (column.tolist() for column in decisions._columns()[:-1])
    return [
        None if degraded else answer
        for answer, degraded in zip(
            zip(*columns, strict=True), decisions.degraded.tolist(), strict=True
        )
    ]


def from_stored(ids: pa.StringArray, answers: Sequence[StoredAnswer]) -> Decisions:
    """The decisions that ``stored_answers`` kept."""
    decision, probability, anomaly, novelty, why, version = zip(*answers, strict=True)
    reasons = np.empty(len(answers), np.object_)
    for row, each in enumerate(why):  # at once, numpy would make a matrix of tuples
        reasons[row] = each
    return Decisions(
        ids,
        np.array(decision, np.int8),
        np.array(probability, np.float64),
        np.array(anomaly, np.float64),
        np.array(novelty, np.float64),
        reasons,
        np.array(version, np.object_),
        np.zeros(len(answers), np.bool_),
    )


def join(parts: Sequence[Decisions]) -> Decisions:
    """All rows of one or more decisions, in order."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part._columns() for part in parts), strict=True)
    return Decisions(
        pa.concat_arrays([part.ids for part in parts]), *(np.concatenate(same) for same in columns)
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
    explainer: Explainer | None = None
    """Names features in the reasons; without it they say what the decision rests on and no more."""

    def decide(
        self, transactions: Transactions, scores: Scores, degraded: bool = False
    ) -> Decisions:
        """The decisions that follow from these scores.

        ``degraded``: something was missing before the lanes already.
        """
        policy = self.description.policy
        fraud = None if scores.fraud is None else self.calibration(scores.fraud)
        novelty = None if scores.anomaly is None else self.novelty(scores.anomaly)
        size = len(transactions)
        decision = decide(policy, self.amounts(transactions), fraud, novelty)
        probability, novelty_p = _or_missing(fraud, size), _or_missing(novelty, size)
        return Decisions(
            ids=transactions.ids,
            decision=decision,
            fraud_probability=probability,
            anomaly_score=_or_missing(scores.anomaly, size),
            novelty_p=novelty_p,
            reasons=reasons(policy, decision, probability, novelty_p),
            model_version=np.full(size, self.digest, np.object_),
            degraded=np.full(size, degraded or fraud is None or novelty is None),
        )

    def explain(
        self, decisions: Decisions, features: NDArray[np.float32], until: float = np.inf
    ) -> Decisions:
        """The decisions with the features in the reasons of each review and block.

        ``features`` (n, f) are those the lanes scored. A row takes about a quarter of a
        millisecond, an approval none; those that no time is left for before ``until``
        (``time.monotonic``) keep the reasons that they have.
        """
        if self.explainer is None:
            return decisions
        reasons = self.explainer(
            decisions.reasons, decisions.decision, decisions.fraud_probability,
            decisions.novelty_p, features, until,
        )  # fmt: skip
        return replace(decisions, reasons=reasons)

    def amounts(self, transactions: Transactions) -> NDArray[np.float64]:
        """(n,) amounts, in the unit of the description."""
        return transactions.numbers[:, self.description.amount_at]


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


def score_offline(
    judge: Judge,
    lanes: LocalLanes,
    transactions: Transactions,
    behaviour: NDArray[np.float32] | None = None,
) -> Decisions:
    """The decisions in this process: the oracle that what is served is held to.

    ``behaviour``: what profiles say of these rows, where the features need it.
    """
    features = judge.features(transactions, behaviour)
    return judge.explain(judge.decide(transactions, lanes.score(features)), features)
