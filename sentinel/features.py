"""Transactions to features: the one feature function, whoever calls.

Training passes a million rows, a request one; both come through ``FeatureSet``, so the features a
model was trained on are the features it sees. Some need the row alone; the others come from
profiles (``sentinel.profiles``), wherever those are kept, and are put in their places here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription
from sentinel.feature_specs import (
    BehaviourFeature,
    ClockFeature,
    LogFeature,
    PassFeature,
    feature_names,
)
from sentinel.profile_plan import ProfilePlan, profile_plan
from sentinel.transactions import Transactions

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_THURSDAY = 3
"""1970-01-01 was a Thursday."""
_LARGEST = np.finfo(np.float32).max


class FeatureSet:
    """The features of one description, in the order the models know them."""

    def __init__(self, description: DatasetDescription) -> None:
        self.names = tuple(n for spec in description.features for n in feature_names(spec))
        self.plan: ProfilePlan | None = profile_plan(description)
        """What profiles must be kept for them; ``None`` where every feature needs the row alone."""
        positions = {name: at for at, name in enumerate(description.numbers)}
        # Fields passed through are copied in one assignment; a column at a time would cost a
        # request with 29 of them more than the models do.
        self._passed_to: list[int] = []
        self._passed_from: list[int] = []
        self._derived: list[tuple[int, Callable[[Transactions], NDArray[np.floating]]]] = []
        at = 0
        for spec in description.features:
            if isinstance(spec, PassFeature):
                self._passed_to.append(at)
                self._passed_from.append(positions[spec.of])
            elif not isinstance(spec, BehaviourFeature):
                self._derived.append((at, _derivation(spec, positions)))
            at += len(feature_names(spec))

    def __call__(
        self, transactions: Transactions, behaviour: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(n, f) float32, C-contiguous; NaN where an optional field is missing or an entity has no
        past to compare with, never infinite.

        ``behaviour`` (n, b): what profiles say of these rows (``Profiles.advance``); every
        description that has a ``plan`` needs it.
        """
        features = np.empty((len(transactions), len(self.names)), dtype=np.float32)
        if self._passed_to:
            numbers = transactions.numbers[:, self._passed_from]
            # float32 ends at 3.4e38: a larger number keeps its sign and stays finite.
            features[:, self._passed_to] = np.clip(numbers, -_LARGEST, _LARGEST)
        for at, derive in self._derived:
            features[:, at] = derive(transactions)
        if self.plan is not None:
            if behaviour is None:
                raise ValueError("these features need what profiles say of the rows")
            features[:, self.plan.columns] = behaviour
        return features


def feature_set(description: DatasetDescription) -> FeatureSet:
    """The features this description asks for."""
    return FeatureSet(description)


def _derivation(
    feature: LogFeature | ClockFeature, positions: dict[str, int]
) -> Callable[[Transactions], NDArray[np.floating]]:
    if isinstance(feature, LogFeature):
        column = positions[feature.of]
        return lambda t: np.log1p(t.numbers[:, column])
    clock = {"hour": _hour, "weekday": _weekday, "weekend": _weekend, "night": _night}
    return clock[feature.kind]


def _times(transactions: Transactions) -> NDArray[np.int64]:
    assert transactions.times is not None, "the description was checked to have a time field"
    return transactions.times


def _hour(transactions: Transactions) -> NDArray[np.floating]:
    return (_times(transactions) // _HOUR % 24).astype(np.float64)


def _weekday(transactions: Transactions) -> NDArray[np.floating]:
    """0 on Monday, 6 on Sunday."""
    return ((_times(transactions) // _DAY + _THURSDAY) % 7).astype(np.float64)


def _weekend(transactions: Transactions) -> NDArray[np.floating]:
    return (_weekday(transactions) >= 5).astype(np.float64)


def _night(transactions: Transactions) -> NDArray[np.floating]:
    return (_hour(transactions) <= 6).astype(np.float64)
