"""The Fraud Detection Handbook's protocol: which rows train, which are judged, and by what.

A model is trained on seven days. Seven days later, when their labels are known, it is judged on the
seven days that follow. Of those the cards are left out that were known to be compromised: by a
fraud in the training days, or by one at least eight days before the day that is judged. Four such
weeks choose models, four later ones judge them.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from sentinel.table import LabelledTable
from training.quality import Labels, Ranking, Reals, auroc, average_precision

DAYS = 7
"""Of training, of the label delay, and of the test: one after the other."""

VALIDATION = (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11))
TEST = (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15))
"""First training days of the published weeks."""

CARDS = 100
"""Cards that can be looked into on a day."""

FIGURES = ("auc", "average_precision", "card_precision_at_100")

CUSTOMER = "customer_id"

_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Week:
    """A test week: its rows, less those of cards known to be compromised, and where the training
    days before it begin and end."""

    train_start: date
    train: slice
    judged: NDArray[np.intp]

    def trained_on(self, days: NDArray[np.int64], length: int) -> slice:
        """The last ``length`` days up to the end of the training days."""
        first = _day_of(self.train_start) + DAYS - length
        return slice(int(np.searchsorted(days, first)), self.train.stop)


@dataclass(frozen=True, slots=True)
class Cards:
    """The table as the protocol sees it: (n,) ``days`` since 1970, which ``card``, and whether it
    was a ``fraud``; in time order."""

    days: NDArray[np.int64]
    card: NDArray[np.int64]
    fraud: Labels

    @classmethod
    def of(cls, table: LabelledTable) -> "Cards":
        """Of a whole table of transactions."""
        times = table.transactions.times
        assert times is not None, "the description has a time field"
        card = table.transactions.entities[CUSTOMER].dictionary_encode().indices.to_numpy()
        return cls(times // _DAY, card.astype(np.int64), table.labels)

    def covers(self, start: date) -> bool:
        """Whether the rows reach from the training days that begin then to the end of the test."""
        first, last = _day_of(start), _day_of(start) + 3 * DAYS - 1
        return bool(len(self.days)) and self.days[0] <= first and self.days[-1] >= last

    def week(self, start: date) -> Week:
        """The week whose training days begin at ``start``."""
        first = _day_of(start)
        train = self._rows(first, first + DAYS)
        known = {*self.card[train][self.fraud[train] == 1].tolist()}
        judged = []
        for day in range(first + 2 * DAYS, first + 3 * DAYS):
            told = self._rows(day - DAYS - 1, day - DAYS)
            known.update(self.card[told][self.fraud[told] == 1].tolist())
            rows = np.arange(len(self.days))[self._rows(day, day + 1)]
            judged.append(rows[~np.isin(self.card[rows], list(known))])
        return Week(start, train, np.concatenate(judged))

    def figures(self, week: Week, score: Reals) -> dict[str, float]:
        """How well ``score`` (m,) of the week's judged rows ranks them."""
        rows = week.judged
        tally = Ranking.of(self.fraud[rows], score).tally(np.arange(len(rows)))
        return {
            "auc": auroc(tally),
            "average_precision": average_precision(tally),
            "card_precision_at_100": card_precision(
                self.days[rows], self.card[rows], self.fraud[rows], score
            ),
        }

    def _rows(self, first: int, end: int) -> slice:
        start, stop = np.searchsorted(self.days, (first, end))
        return slice(int(start), int(stop))


def card_precision(
    days: NDArray[np.int64], card: NDArray[np.int64], fraud: Labels, score: Reals, top: int = CARDS
) -> float:
    """Mean over the days of the share of compromised cards among the ``top`` of the day.

    A card's score is its highest of the day. One that was found is not looked into on later days.
    Of equal scores the card comes first that stands first in the day.
    """
    found: set[int] = set()
    shares = []
    for one_day in np.unique(days):
        cards, highest, compromised = _cards_of(
            card[days == one_day], fraud[days == one_day], score[days == one_day], found
        )
        looked = np.argsort(-highest, kind="stable")[:top]
        hits = cards[looked][compromised[looked] > 0]
        found.update(hits.tolist())
        shares.append(len(hits) / top)
    return float(np.mean(shares))


def _cards_of(
    card: NDArray[np.int64], fraud: Labels, score: Reals, found: set[int]
) -> tuple[NDArray[np.int64], Reals, NDArray[np.int64]]:
    """The cards of a day that were not found yet, the highest score of each, and its frauds."""
    left = ~np.isin(card, list(found))
    cards, first, place = np.unique(card[left], return_index=True, return_inverse=True)
    highest = np.full(len(cards), -np.inf)
    np.maximum.at(highest, place, score[left])
    frauds = np.bincount(place, weights=fraud[left], minlength=len(cards)).astype(np.int64)
    order = np.argsort(first)
    return cards[order], highest[order], frauds[order]


def last_day(cards: Cards) -> str:
    """The last day of the table, for people."""
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(cards.days[-1]))).date().isoformat()
    )


def _day_of(day: date) -> int:
    return (day - date(1970, 1, 1)).days
