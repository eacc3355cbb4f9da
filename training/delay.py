"""What labels that come sooner would be worth: the backtest once more with a delay of a day."""

from dataclasses import replace
from typing import Any

import numpy as np

from sentinel.feature_specs import RISK, BehaviourFeature, microseconds_of
from sentinel.history import table_features
from sentinel.runtime import TreeModel, fraud_score
from sentinel.table import LabelledTable
from training.fit import Fitted, Options, refit
from training.newcomers import newcomers
from training.quality import Ranking, Reals, average_precision

SOONER = "1d"


def label_delay_matters(
    table: LabelledTable, fitted: Fitted, start: int, score: Reals, options: Options
) -> dict[str, Any] | None:
    """Average precision on the rows from ``start`` on, with the label delay of the description and
    with one of a day; ``None`` where no feature rests on labels, or the delay is no longer.

    ``fitted`` was trained on the rows before and gave the others these scores; its parameters and
    rounds are kept, so that nothing but the delay differs.
    """
    description = table.description
    behaviour = description.behaviour
    known = any(isinstance(f, BehaviourFeature) and f.kind in RISK for f in description.features)
    if not known or microseconds_of(behaviour.label_delay) <= microseconds_of(SOONER):
        return None
    sooner = description.model_copy(
        update={"behaviour": behaviour.model_copy(update={"label_delay": SOONER})}
    )
    other = replace(table, description=sooner)
    features, _ = table_features(other)
    new = newcomers(other, features, options.seed)
    model = refit(features[:start], table.labels[:start], fitted.parameters, options, new)
    after = fraud_score(TreeModel(model).margin(features[start:]))
    later = table.labels[start:]
    return {
        "delay": behaviour.label_delay,
        "average_precision": _precision(later, score),
        "sooner": SOONER,
        "average_precision_sooner": _precision(later, after),
    }


def _precision(labels: Any, score: Reals) -> float:
    return average_precision(Ranking.of(labels, score).tally(np.arange(len(labels))))
