"""How good the scores are: the product's quality figures with 95% bootstrap intervals.

Every figure of the scores is computed from a :class:`Tally`: how many frauds and how many
legitimate rows share each distinct score. Equal scores are therefore always taken together, and
no figure depends on the order of the rows. A bootstrap resample has the same scores with other
counts, so scores are sorted once; the plots' curves come from the same sums as the figures.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int8]
Counts = NDArray[np.int64]
Reals = NDArray[np.float64]

CALIBRATION_BINS = 15
"""Bins of the expected calibration error, all of equal mass."""

LEGIT_PER_FALSE_ALARM = 100
"""At a false-positive rate of 1%, one legitimate row in so many may be flagged."""

DRAWS_LIMIT = 250_000_000
"""Rows drawn over all resamples, above which there are fewer resamples; they take one core
15 to 20 s, or 40 s where ``FEWEST_RESAMPLES`` of 1,750,000 rows are more."""

FEWEST_RESAMPLES = 200
"""What the limit above never goes below: five resamples remain beyond each end of an interval."""

_REDRAWS = 64
"""Tries at a resample with rows of both kinds; each fails with probability 1/2 at most."""

_RAISED_BY_NOISE = frozenset({"expected_calibration_error"})
"""Sums of distances: resampling adds its noise to them a second time (see :func:`measure`)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure on the given rows, with the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The three numbers under the names the product's JSON gives them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Quality:
    """What ``sentinel evaluate`` reports of a bundle; :func:`measure` defines each figure."""

    rows: int
    frauds: int
    average_precision: Interval
    auroc: Interval
    recall_at_1pct_fpr: Interval
    brier_skill: Interval
    expected_calibration_error: Interval
    regret_per_1000: Interval

    def as_dict(self) -> dict[str, int | dict[str, float]]:
        """The product's JSON object: two counts, and each figure as value, low and high."""
        return asdict(self)


def measure(
    labels: Labels, probability: Reals, regret: Reals, *, resamples: int = 500, seed: int = 0
) -> Quality:
    """The quality of calibrated probabilities, and of the decisions made from them.

    ``labels`` are 1 for fraud, else 0; ``regret`` is each row's cost above that of the perfect
    decision, in the dataset's currency. The figures:

    - ``average_precision``: area under the steps of precision over recall (scikit-learn's);
    - ``auroc``: chance that a fraud scores above a legitimate row, equal scores counting half;
    - ``recall_at_1pct_fpr``: share of the frauds caught by the lowest threshold that flags at
      most 1% of the legitimate rows, a threshold taking all rows of equal score;
    - ``brier_skill``: 1 - Brier score / Brier score of always saying the fraud rate;
    - ``expected_calibration_error``: mean distance between mean probability and fraud rate, over
      15 bins of equal mass (see :func:`calibration_bins`);
    - ``regret_per_1000``: 1000 times the mean regret.

    Intervals are the 2.5th and 97.5th percentiles over ``resamples`` draws of as many rows, with
    replacement and not stratified; a draw without a fraud or without a legitimate row is redrawn.
    Every interval is made to reach its value. That of the calibration error comes from the draws
    reflected at the value, at 0 at least: noise only ever raises this figure, so the draws exceed
    the value by about what the value exceeds the truth, and their plain percentiles miss both.
    Above ``DRAWS_LIMIT / resamples`` rows (500,000 by default) there are fewer resamples, but
    never fewer than ``FEWEST_RESAMPLES``. The same seed gives the same numbers.

    Raises ``ValueError`` for no rows, lengths that differ, labels that are not 0 and 1 or all the
    same, probabilities outside [0, 1], and numbers that are not finite.
    """
    _check_probabilities(labels, probability)
    _check_numbers("regret", regret, len(labels))
    ranking = Ranking.of(labels, probability)

    def figures(drawn: Counts) -> dict[str, float]:
        tally = ranking.tally(drawn)
        return {
            **_rank_figures(tally),
            "brier_skill": brier_skill(tally),
            "expected_calibration_error": expected_calibration_error(tally),
            "regret_per_1000": 1000 * float(regret[drawn].mean()),
        }

    intervals = _bootstrap(labels, figures, resamples, seed)
    return Quality(rows=len(labels), frauds=int(np.count_nonzero(labels)), **intervals)


def rank_quality(
    labels: Labels, score: Reals, *, resamples: int = 500, seed: int = 0
) -> dict[str, Interval]:
    """The figures of :func:`measure` that need only an order: for scores that are no probability.

    Keys: ``average_precision``, ``auroc``, ``recall_at_1pct_fpr``. Same resamples as ``measure``
    with the same number of rows and seed, same errors; a score may be any finite number.
    """
    _check_scores(labels, score)
    ranking = Ranking.of(labels, score)
    return _bootstrap(labels, lambda drawn: _rank_figures(ranking.tally(drawn)), resamples, seed)


def precision_recall(labels: Labels, score: Reals) -> tuple[Reals, Reals, Reals]:
    """Recall, precision and threshold at each score that some fraud has, the highest first.

    A threshold flags the scores equal to it and above; one between two of these flags more rows
    than the next higher and catches no more frauds. The steps of this curve enclose
    ``average_precision``; no end point is made up at recall 0.
    """
    _check_scores(labels, score)
    tally = _tally_all(labels, score)
    return tally.caught[1:] / tally.caught[-1], _precision(tally), tally.score[tally.hit]


def calibration_bins(
    labels: Labels, probability: Reals, bins: int = CALIBRATION_BINS
) -> tuple[Reals, Reals, Reals]:
    """Mean probability, fraud rate and rows of each bin, the lowest probabilities first.

    The rows in the order of their probability are cut into ``bins`` parts of exactly equal mass.
    Rows of equal probability that lie across a cut are shared out in proportion, frauds and
    legitimate rows alike, so the order of such rows does not matter, and ``rows`` is the same
    ``len(labels) / bins``, possibly a fraction, for each bin.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected 1 or more")
    _check_probabilities(labels, probability)
    expected, frauds = _bin_sums(_tally_all(labels, probability), bins)
    rows = np.full(bins, len(labels) / bins)
    return expected[::-1] / rows, frauds[::-1] / rows, rows


@dataclass(frozen=True, slots=True)
class Tally:
    """All that the figures need to know of the scores: rows at each of them, frauds where any are.

    ``score`` holds the distinct scores, the highest first, ``rows`` the number of rows with each,
    and ``flagged`` the running sum: entry ``i`` counts the rows with one of the ``i`` highest.
    Frauds are few, so they are kept apart: ``hit`` holds the places in ``score`` that have frauds,
    ``frauds`` their numbers, ``caught`` the running sum. A resample may leave a score without
    rows or a hit without frauds, but has at least one fraud and one legitimate row in all.
    """

    score: Reals
    rows: Counts
    flagged: Reals
    hit: Counts
    frauds: Counts
    caught: Reals


def average_precision(tally: Tally) -> float:
    """Mean over the frauds of the precision at the threshold that just catches them."""
    return float((tally.frauds * _precision(tally)).sum() / tally.caught[-1])


def auroc(tally: Tally) -> float:
    """Share of the pairs of a fraud and a legitimate row in which the fraud scores higher."""
    legit_above = tally.flagged[tally.hit] - tally.caught[:-1]
    legit_equal = tally.rows[tally.hit] - tally.frauds
    lost = (tally.frauds * (legit_above + legit_equal / 2)).sum()
    return float(1 - lost / (tally.caught[-1] * (tally.flagged[-1] - tally.caught[-1])))


def recall_at_1pct_fpr(tally: Tally) -> float:
    """Share of the frauds caught by the lowest threshold with at most 1% false alarms."""
    false_alarms = tally.flagged[tally.hit + 1] - tally.caught[1:]
    allowed = (tally.flagged[-1] - tally.caught[-1]) // LEGIT_PER_FALSE_ALARM
    hits = np.searchsorted(false_alarms, allowed, side="right")
    return float(tally.caught[hits] / tally.caught[-1])


def brier_skill(tally: Tally) -> float:
    """1 - Brier score / Brier score of the base rate: 1 is perfect, 0 no better than the rate."""
    were_all_legit = (tally.rows * tally.score**2).sum()
    squares = were_all_legit + (tally.frauds * (1 - 2 * tally.score[tally.hit])).sum()
    rate = tally.caught[-1] / tally.flagged[-1]
    return float(1 - squares / (tally.flagged[-1] * rate * (1 - rate)))


def expected_calibration_error(tally: Tally) -> float:
    """Mean distance of mean probability and fraud rate over ``CALIBRATION_BINS`` equal bins."""
    expected, frauds = _bin_sums(tally, CALIBRATION_BINS)
    return float(np.abs(expected - frauds).sum() / tally.flagged[-1])


def _rank_figures(tally: Tally) -> dict[str, float]:
    return {
        "average_precision": average_precision(tally),
        "auroc": auroc(tally),
        "recall_at_1pct_fpr": recall_at_1pct_fpr(tally),
    }


def _precision(tally: Tally) -> Reals:
    """Share of frauds among the flagged at each hit; 0 while a resample has none flagged."""
    precision: Reals = tally.caught[1:] / np.maximum(tally.flagged[tally.hit + 1], 1)
    return precision


def _bin_sums(tally: Tally, bins: int) -> tuple[Reals, Reals]:
    """Sum of the probabilities and number of frauds in each bin, highest probabilities first.

    Both running sums are straight lines across the rows of one score: that shares them out.
    """
    cuts = np.linspace(0, tally.flagged[-1], bins + 1)
    expected = np.interp(cuts, tally.flagged, _running_sum(tally.rows * tally.score))
    around_hits = np.column_stack((tally.flagged[tally.hit], tally.flagged[tally.hit + 1]))
    caught = np.column_stack((tally.caught[:-1], tally.caught[1:]))
    frauds = np.interp(cuts, around_hits.ravel(), caught.ravel())
    return np.diff(expected), np.diff(frauds)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The distinct scores, highest first, which of them have frauds, and each row's place."""

    score: Reals
    hit: Counts
    place: Counts
    fraud: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: Labels, score: Reals) -> "Ranking":
        distinct, from_below = np.unique(score, return_inverse=True)
        place = len(distinct) - 1 - from_below
        fraud = labels == 1
        return cls(np.ascontiguousarray(distinct[::-1]), np.unique(place[fraud]), place, fraud)

    def tally(self, drawn: Counts) -> Tally:
        """The tally of the rows numbered ``drawn``, each as often as it occurs there."""
        place = self.place[drawn]
        fraud_hit = np.searchsorted(self.hit, place[self.fraud[drawn]])
        rows = np.bincount(place, minlength=len(self.score))
        frauds = np.bincount(fraud_hit, minlength=len(self.hit))
        return Tally(self.score, rows, _running_sum(rows), self.hit, frauds, _running_sum(frauds))


def _tally_all(labels: Labels, score: Reals) -> Tally:
    """The tally of every row once."""
    return Ranking.of(labels, score).tally(np.arange(len(labels)))


def _running_sum(values: Counts | Reals) -> Reals:
    """Sums of the first 0, 1, 2, ... values: one longer than the values."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _bootstrap(
    labels: Labels, figures: Callable[[Counts], dict[str, float]], resamples: int, seed: int
) -> dict[str, Interval]:
    """Each of the ``figures`` of a list of row numbers, with its interval over resamples."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected 1 or more")
    rng = np.random.default_rng(seed)
    rounds = range(affordable_resamples(len(labels), resamples))
    draws = [figures(_draw(rng, labels)) for _ in rounds]
    return {
        name: _interval(name, value, np.array([drawn[name] for drawn in draws]))
        for name, value in figures(np.arange(len(labels))).items()
    }


def affordable_resamples(rows: int, resamples: int) -> int:
    """How many of the ``resamples`` asked for are drawn from this many rows."""
    return min(resamples, max(FEWEST_RESAMPLES, DRAWS_LIMIT // rows))


def _draw(rng: np.random.Generator, labels: Labels) -> Counts:
    """Row numbers with replacement, some of either kind; the rows as given if luck fails us."""
    for _ in range(_REDRAWS):
        drawn = rng.integers(len(labels), size=len(labels))
        if 0 < np.count_nonzero(labels[drawn]) < len(labels):
            return drawn
    return np.arange(len(labels))


def _interval(name: str, value: float, draws: Reals) -> Interval:
    if name in _RAISED_BY_NOISE:
        draws = np.maximum(2 * value - draws, 0)
    low, high = np.percentile(draws, (2.5, 97.5))
    return Interval(value, min(float(low), value), max(float(high), value))


def _check_scores(labels: Labels, score: Reals, name: str = "score") -> None:
    """Refuse what no figure is defined for."""
    if len(labels) == 0:
        raise ValueError("labels has 0 rows, expected at least one fraud and one legitimate row")
    others = labels[(labels != 0) & (labels != 1)]
    if len(others):
        raise ValueError(f"labels has the value {others[0]}, expected 0 (legitimate) or 1 (fraud)")
    if labels.min() == labels.max():
        raise ValueError(f"labels is {labels[0]} in all {len(labels)} rows, expected both 0 and 1")
    _check_numbers(name, score, len(labels))


def _check_probabilities(labels: Labels, probability: Reals) -> None:
    _check_scores(labels, probability, "probability")
    outside = probability[(probability < 0) | (probability > 1)]
    if len(outside):
        raise ValueError(f"probability has the value {outside[0]}, expected 0 to 1")


def _check_numbers(name: str, values: Reals, rows: int) -> None:
    if len(values) != rows:
        raise ValueError(f"{name} has {len(values)} rows, expected {rows} as in labels")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} is {values[bad[0]]} in row {bad[0]}, expected a finite number")
