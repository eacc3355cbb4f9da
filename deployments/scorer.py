"""What a worker of ``sentinel score`` does with a batch of rows: score, decide, write."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deployments.score_folder import REASONS, write_part
from sentinel.answers import columns
from sentinel.bundle import Bundle
from sentinel.decision import APPROVE
from sentinel.row_tables import ERROR, ROW, good_rows, places_of, to_transactions
from sentinel.scoring import Decisions, Scores


class Scorer:
    """One bundle's models and what surrounds them. Batches are tables as ``row_tables`` has them.

    It keeps nothing between calls, so whichever worker is asked, or asked twice, answers the same.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._judge = bundle.judge()
        self._lanes = bundle.lanes(threads=1)

    def scores(
        self, place: str, table: pa.Table, behaviour: NDArray[np.float32] | None
    ) -> NDArray[np.float64]:
        """(n, 2) fraud and anomaly score of the n good rows; ``behaviour`` (n, b) is what profiles
        say of them. Writes the reasons of those that are not approved: they need the features."""
        scores, decisions = self._judged(table, behaviour)
        flagged = np.flatnonzero(decisions.decision != APPROVE)
        rows = table.column(ROW).to_numpy()[good_rows(table)]
        why = [list(reasons) for reasons in decisions.reasons[flagged]]
        found = pa.table({ROW: rows[flagged], REASONS: pa.array(why, pa.list_(pa.string()))})
        write_part(Path(place), found)
        assert scores.fraud is not None
        assert scores.anomaly is not None
        return np.stack([scores.fraud, scores.anomaly], axis=1)

    def write(self, place: str, table: pa.Table, behaviour: NDArray[np.float32] | None) -> int:
        """Scores the rows and writes the answers; how many rows there are."""
        _, decisions = self._judged(table, behaviour)
        write_part(Path(place), answer_table(decisions, table))
        return table.num_rows

    def write_scored(
        self, part: str, table: pa.Table, scores: NDArray[np.float64], why: pa.Table
    ) -> int:
        """Writes the answers to rows whose good ones (n) have these scores, (n, 2), and some of
        them these reasons."""
        transactions = to_transactions(table, self._judge.description)
        fraud, anomaly = np.ascontiguousarray(scores.T)
        decisions = self._judge.decide(transactions, Scores(fraud, anomaly))
        rows = table.column(ROW).to_numpy()[good_rows(table)]
        places = np.searchsorted(rows, why.column(ROW).to_numpy())
        for place, reasons in zip(places.tolist(), why.column(REASONS).to_pylist(), strict=True):
            decisions.reasons[place] = tuple(reasons)
        write_part(Path(part), answer_table(decisions, table))
        return table.num_rows

    def _judged(
        self, table: pa.Table, behaviour: NDArray[np.float32] | None
    ) -> tuple[Scores, Decisions]:
        transactions = to_transactions(table, self._judge.description)
        features = self._judge.features(transactions, behaviour)
        scores = self._lanes.score(features)
        decisions = self._judge.decide(transactions, scores)
        return scores, self._judge.explain(decisions, features)


def answer_table(decisions: Decisions, table: pa.Table) -> pa.Table:
    """The answers as ``score`` writes them: a row per row of the table, a bad one with its error
    alone."""
    answers = pa.table(columns(decisions))
    if len(answers) < table.num_rows:
        answers = answers.take(places_of(good_rows(table), table.num_rows))
    return answers.append_column(ERROR, table.column(ERROR))
