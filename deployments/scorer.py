"""What a worker of ``sentinel score`` does with a batch of rows: score, decide, write."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deployments.score_folder import write_part
from sentinel.answers import columns
from sentinel.bundle import Bundle
from sentinel.row_tables import ERROR, good_rows, places_of, to_transactions
from sentinel.scoring import Decisions, Scores


class Scorer:
    """One bundle's models and what surrounds them. Batches are tables as ``row_tables`` has them.

    It keeps nothing between calls, so whichever worker is asked, or asked twice, answers the same.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._judge = bundle.judge()
        self._lanes = bundle.lanes(threads=1)

    def scores(self, table: pa.Table, behaviour: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """(n, 2) fraud and anomaly score of the n good rows; ``behaviour`` (n, b) is what profiles
        say of them."""
        transactions = to_transactions(table, self._judge.description)
        scores = self._lanes.score(self._judge.features(transactions, behaviour))
        assert scores.fraud is not None
        assert scores.anomaly is not None
        return np.stack([scores.fraud, scores.anomaly], axis=1)

    def write(self, place: str, table: pa.Table, behaviour: NDArray[np.float32] | None) -> int:
        """Scores the rows and writes the answers; how many rows there are."""
        return self.write_scored(place, table, self.scores(table, behaviour))

    def write_scored(self, place: str, table: pa.Table, scores: NDArray[np.float64]) -> int:
        """Writes the answers to rows whose good ones (n) have these scores, (n, 2)."""
        transactions = to_transactions(table, self._judge.description)
        fraud, anomaly = np.ascontiguousarray(scores.T)
        decisions = self._judge.decide(transactions, Scores(fraud, anomaly))
        write_part(Path(place), answer_table(decisions, table))
        return table.num_rows


def answer_table(decisions: Decisions, table: pa.Table) -> pa.Table:
    """The answers as ``score`` writes them: a row per row of the table, a bad one with its error
    alone."""
    answers = pa.table(columns(decisions))
    if len(answers) < table.num_rows:
        answers = answers.take(places_of(good_rows(table), table.num_rows))
    return answers.append_column(ERROR, table.column(ERROR))
