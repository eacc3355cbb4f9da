"""Training rows as they would look if nobody had seen their customer or their terminal before.

After months of history hardly a row is without a past, so a model would learn nothing about those
that are: a new customer's first large payment, or every payment while profiles cannot be reached.
So a share of the training rows is learnt from a second time, each with some of its entities taken
for new ones. Frauds and legitimate rows are copied alike, so that probabilities stay true. Nothing
is ever judged, stopped or calibrated on a copy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentinel.features import feature_set
from sentinel.history import as_of_new_entities
from sentinel.table import LabelledTable

SHARE = 0.25
"""Of the rows that are copied: a week of the handbook's transactions has some thirty frauds that
only their amount gives away."""


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Copies (k, f) of the ``rows`` (k,), which ascend."""

    rows: NDArray[np.intp]
    features: NDArray[np.float32]

    def within(self, rows: slice) -> slice:
        """Which of the copies are of these rows."""
        first, last = np.searchsorted(self.rows, (rows.start, rows.stop))
        return slice(int(first), int(last))

    def of(self, rows: slice) -> "Newcomers":
        """The copies of these rows, which are numbered from 0 then."""
        mine = self.within(rows)
        return Newcomers(self.rows[mine] - rows.start, self.features[mine])


def newcomers(
    table: LabelledTable, features: NDArray[np.float32], seed: int = 0
) -> Newcomers | None:
    """Copies of a share of the table's rows, whose (n, f) features are given; ``None`` where no
    feature needs a profile.

    Of each copy every entity is a new one with a chance of one half, but one is at least.
    """
    build = feature_set(table.description)
    if build.plan is None:
        return None
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(len(table)) < SHARE)
    transactions = table.transactions.take(rows)
    unknown = build(transactions, as_of_new_entities(table.description, build.plan, transactions))
    copies = features[rows]
    new = rng.random((len(rows), len(build.plan.entities))) < 0.5
    least = rng.integers(len(build.plan.entities), size=len(rows))
    new[np.arange(len(rows)), least] |= ~new.any(axis=1)
    for entity, chosen in zip(build.plan.entities, new.T, strict=True):
        mine = np.ix_(chosen, entity.columns)
        copies[mine] = unknown[mine]
    return Newcomers(rows, copies)
