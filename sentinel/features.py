"""Transactions to model inputs: the one feature function, whoever calls.

Training passes a million rows, a request one; both come through ``FeatureSet``, so the features a
model was trained on are the features it sees. A set is made of sources, each of which fills its
own columns. ``StatelessFeatures`` needs the row alone; behaviour (what a customer usually does)
enters as a second source beside it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentinel.dataset import ClockFeature, DatasetDescription, FeatureSpec, LogFeature, feature_name
from sentinel.transactions import Transactions

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_THURSDAY = 3
"""1970-01-01 was a Thursday."""
_LARGEST = np.finfo(np.float32).max


class FeatureSource(Protocol):
    """Some columns of a feature matrix."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""

    def fill(self, transactions: Transactions, out: NDArray[np.float32]) -> None:
        """Writes its features of these n rows into ``out`` (n, len(names))."""


class FeatureSet:
    """The features of a bundle, in the order the models know them."""

    def __init__(self, sources: Sequence[FeatureSource]) -> None:
        self._sources = tuple(sources)
        self.names = tuple(name for source in sources for name in source.names)

    def __call__(self, transactions: Transactions) -> NDArray[np.float32]:
        """(n, f) float32, C-contiguous; NaN where an optional field is missing, never infinite."""
        features = np.empty((len(transactions), len(self.names)), dtype=np.float32)
        start = 0
        for source in self._sources:
            stop = start + len(source.names)
            source.fill(transactions, features[:, start:stop])
            start = stop
        return features


class StatelessFeatures:
    """Features of the row alone: the fields themselves, logarithms, and the clock in UTC."""

    def __init__(self, description: DatasetDescription) -> None:
        self.names = tuple(feature_name(feature) for feature in description.features)
        positions = {name: at for at, name in enumerate(description.numbers)}
        # Fields passed through are copied in one assignment; a column at a time would cost a
        # request with 29 of them more than the models do.
        self._passed_to: list[int] = []
        self._passed_from: list[int] = []
        self._derived: list[tuple[int, Callable[[Transactions], NDArray[np.floating]]]] = []
        for at, feature in enumerate(description.features):
            if isinstance(feature, ClockFeature | LogFeature):
                self._derived.append((at, _derivation(feature, positions)))
            else:
                self._passed_to.append(at)
                self._passed_from.append(positions[feature.of])

    def fill(self, transactions: Transactions, out: NDArray[np.float32]) -> None:
        if self._passed_to:
            numbers = transactions.numbers[:, self._passed_from]
            # float32 ends at 3.4e38: a larger number keeps its sign and stays finite.
            out[:, self._passed_to] = np.clip(numbers, -_LARGEST, _LARGEST)
        for at, derive in self._derived:
            out[:, at] = derive(transactions)


def feature_set(description: DatasetDescription) -> FeatureSet:
    """The features this description asks for."""
    return FeatureSet([StatelessFeatures(description)])


def _derivation(
    feature: FeatureSpec, positions: dict[str, int]
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
