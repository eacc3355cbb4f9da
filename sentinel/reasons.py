"""Why a transaction is reviewed or blocked, in an analyst's words.

What the decision rests on comes first (``decision.reasons``). Then, for each lane that raised it,
the features that contribute most to that lane's score: exact Shapley values, added up over the
features of a theme (the same thing in several windows), and told by the strongest of them. An
approval costs nothing of this.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.attribution import TreeAttribution
from sentinel.dataset import DatasetDescription
from sentinel.decision import APPROVE
from sentinel.phrases import phrases_of

NAMED = 3
"""Most themes named for each lane."""

LEAST_PART = 0.05
"""Smallest part of what speaks against a row that is named: less says nothing."""

AT_ONCE = 16
"""Rows explained between two looks at the clock: some milliseconds."""

Clock = Callable[[], float]


class Explainer:
    """Says which features raised each lane's score. Safe to share between threads."""

    def __init__(
        self,
        description: DatasetDescription,
        fraud: TreeAttribution | None,
        novelty: TreeAttribution | None,
    ) -> None:
        """``fraud`` and ``novelty`` explain the margin of either lane; ``None`` where that lane's
        model does not say how its training rows went, and then its features are not named."""
        self._fraud = fraud
        self._novelty = novelty
        self._novel_below = description.policy.novelty_review_below
        self._phrases = phrases_of(description)
        themes = list(dict.fromkeys(phrase.theme for phrase in self._phrases))
        of_theme = np.array([themes.index(phrase.theme) for phrase in self._phrases])
        self._members = [np.flatnonzero(of_theme == theme) for theme in range(len(themes))]
        self._of_theme = (of_theme[:, None] == np.arange(len(themes))).astype(np.float64)

    def warm_up(self) -> None:
        """Has compiled what explaining needs: the first row to be explained cannot wait for it."""
        nothing = np.zeros((1, len(self._phrases)), np.float32)
        for attribution in (self._fraud, self._novelty):
            if attribution is not None:
                attribution(nothing)

    def __call__(
        self,
        reasons: NDArray[np.object_],
        decision: NDArray[np.int8],
        probability: NDArray[np.float64],
        novelty_p: NDArray[np.float64],
        features: NDArray[np.float32],
        until: float = np.inf,
        clock: Clock = time.monotonic,
    ) -> NDArray[np.object_]:
        """(n,) the reasons with the features of each row that is not approved.

        ``probability`` and ``novelty_p`` are NaN where that lane was missing; ``features`` (n, f).
        Rows that the ``clock`` leaves no time for before ``until`` keep what they have.
        """
        found = reasons.copy()
        flagged = np.flatnonzero(decision != APPROVE)
        for start in range(0, len(flagged), AT_ONCE):
            if clock() >= until:
                break
            rows = flagged[start : start + AT_ONCE]
            self._add(self._fraud, 1, rows[~np.isnan(probability[rows])], features, found, "")
            novel = rows[novelty_p[rows] < self._novel_below]
            # The novelty margin is a path length: what shortens it isolates the row.
            self._add(self._novelty, -1, novel, features, found, "set apart by: ")
        return found

    def _add(
        self,
        attribution: TreeAttribution | None,
        sign: int,
        rows: NDArray[np.intp],
        features: NDArray[np.float32],
        found: NDArray[np.object_],
        lead: str,
    ) -> None:
        if attribution is None or not len(rows):
            return
        values = np.ascontiguousarray(features[rows])
        parts = sign * attribution(values)
        for row, value, part, themes in zip(
            rows.tolist(), values, parts, parts @ self._of_theme, strict=True
        ):
            found[row] += tuple(lead + said for said in self._told(value, part, themes))

    def _told(
        self, value: NDArray[np.float32], part: NDArray[np.float64], themes: NDArray[np.float64]
    ) -> Sequence[str]:
        """The strongest themes of one row, each by the words of its strongest feature."""
        least = LEAST_PART * themes[themes > 0].sum()
        strongest = np.argsort(-themes, kind="stable")[:NAMED]
        told = []
        for theme in strongest[themes[strongest] > least].tolist():
            members = self._members[theme]
            at = int(members[np.argmax(part[members])])
            told.append(self._phrases[at].say(float(value[at])))
        return told
