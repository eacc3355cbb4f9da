"""Whether the novelty lane's stated rate of false alarms is the one that later weeks show.

The window that scores are held against holds legitimate rows whose labels are known: on each day
those of the days up to eight days before. ``sentinel recalibrate`` moves it so in production.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.calibration import NoveltyCalibration
from sentinel.dataset import Policy
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.trees import to_booster
from training.fit import NOVELTY_WINDOW, Features
from training.novelty import fit_forest
from training.protocol import DAYS, Cards


def false_alarms(
    cards: Cards, features: Features, columns: NDArray[np.intp], starts: Sequence[date]
) -> dict[str, Any]:
    """By week, the share of legitimate rows that a p-value below the policy's default bound sends
    to review: ``observed`` with a window that moves daily, ``fixed`` with that of the first day."""
    stated = Policy().novelty_review_below
    return {
        "stated": stated,
        "window": NOVELTY_WINDOW,
        "weeks": [
            {"train_start": start.isoformat(), **_week(cards, features, columns, start, stated)}
            for start in starts
        ],
    }


def _week(
    cards: Cards, features: Features, columns: NDArray[np.intp], start: date, stated: float
) -> dict[str, float]:
    train = cards.week(start).train
    legitimate = np.flatnonzero(cards.fraud == 0)
    usual = features[train][cards.fraud[train] == 0]
    model = TreeModel(bytes(to_booster(fit_forest(usual, columns, 0)).save_raw("ubj")))
    first = int(cards.days[train.start]) + 2 * DAYS
    bounds = np.searchsorted(cards.days[legitimate], [first, first + DAYS])
    needed = legitimate[max(0, bounds[0] - 2 * NOVELTY_WINDOW) : bounds[1]]
    score, days = anomaly_score(model.margin(features[needed])), cards.days[needed]
    alarms, fixed, rows = 0, 0, 0
    at_first = NoveltyCalibration(score[days < first - DAYS][-NOVELTY_WINDOW:])
    for day in range(first, first + DAYS):
        today = score[days == day]
        moved = NoveltyCalibration(score[days < day - DAYS][-NOVELTY_WINDOW:])
        alarms += int((moved(today) < stated).sum())
        fixed += int((at_first(today) < stated).sum())
        rows += len(today)
    return {"rows": rows, "observed": round(alarms / rows, 6), "fixed": round(fixed / rows, 6)}
