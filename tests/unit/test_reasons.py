"""Reasons name what raised the score, in words made of the description; an approval has none."""

import math
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped, unused-ignore]

from sentinel.attribution import attribution_of
from sentinel.dataset import load_description, parse_description
from sentinel.decision import APPROVE, BLOCK, REVIEW, reasons
from sentinel.feature_specs import KIND, BehaviourFeature, feature_names
from sentinel.phrases import BEHAVIOUR, phrases_of
from sentinel.reasons import Explainer
from sentinel.trees import from_booster, from_isolation_forest
from tests.behaviour import described

TRANSACTIONS = described(
    [
        "amount",
        {"kind": "log", "of": "amount"},
        *("hour", "weekday", "weekend", "night"),
        {"kind": "count", "by": "customer_id", "over": "1d"},
        {"kind": "ratio_mean", "by": "customer_id", "over": ["7d", "30d"]},
        {"kind": "zscore", "by": "customer_id", "over": "30d"},
        {"kind": "since_last", "by": "customer_id", "over": "30d"},
        {"kind": "known_frauds", "by": "terminal_id", "over": ["1d", "14d"]},
        {"kind": "since_fraud", "by": "terminal_id", "over": "30d"},
    ]
)
NAMES = [name for spec in TRANSACTIONS.features for name in feature_names(spec)]
AMOUNT, RATIO, FRAUDS = (
    NAMES.index(name)
    for name in ("amount", "customer_id_ratio_mean_30d", "terminal_id_known_frauds_14d")
)


def said(name: str, value: float) -> str:
    return phrases_of(TRANSACTIONS)[NAMES.index(name)].say(value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("amount", 812.5, "amount 812.50 EUR"),
        ("log_amount", math.log1p(812.5), "amount 812.50 EUR"),
        ("hour", 3, "made between 3:00 and 3:59 UTC"),
        ("weekday", 6, "made on a Sunday"),
        ("customer_id_ratio_mean_30d", 4.12, "amount 4.1 times this customer's 30-day mean"),
        (
            "customer_id_ratio_mean_30d",
            math.nan,
            "no amount of this customer in the 30 days before to compare with",
        ),
        ("customer_id_count_1d", 12, "12 transactions of this customer in 1 day"),
        ("customer_id_since_last_30d", 0.05, "3.0 minutes after this customer's last transaction"),
        ("terminal_id_known_frauds_14d", 3, "terminal had 3 known frauds in 14 days"),
        ("terminal_id_known_frauds_1d", 1, "terminal had 1 known fraud in 1 day"),
        ("terminal_id_since_fraud_30d", math.nan, "terminal had 0 known frauds in 30 days"),
    ],
)
def test_a_feature_is_told_in_an_analysts_words(name: str, value: float, words: str) -> None:
    assert said(name, value) == words


def test_a_field_without_a_unit_is_told_by_its_meaning() -> None:
    phrases = phrases_of(load_description("creditcard"))
    assert phrases[0].say(-2.345) == "V1 is -2.35 (anonymised principal component 1)"


def test_categories_truth_values_and_missing_ones_are_told() -> None:
    description = parse_description(
        """
name: shop
summary: orders
id: order
time: row_order
label: bad
amount: total
fields:
  order: {type: string, meaning: its number}
  total: {type: number, meaning: to pay, unit: EUR, minimum: 0}
  gift: {type: boolean, meaning: goes elsewhere}
  channel: {type: category, values: [web, app], meaning: how it came, optional: true}
  bad: {type: label, meaning: charged back}
features: [total, gift, channel]
""",
        "here",
    )
    _, gift, channel = phrases_of(description)
    assert gift.say(1.0) == "gift is true (goes elsewhere)"
    assert channel.say(1.0) == "channel is app (how it came)"
    assert channel.say(math.nan) == "channel is missing (how it came)"


def test_every_kind_of_behaviour_has_words_for_any_value() -> None:
    kinds = {kind for kind, model in KIND.items() if model is BehaviourFeature}
    assert set(BEHAVIOUR) == kinds
    for phrase in phrases_of(described()):  # which has them all
        for value in (0.0, 1.0, 3.0, math.nan):
            if phrase.theme in ("time", "amount") and math.isnan(value):
                continue  # of every row
            assert phrase.say(value)


def table(seed: int = 0, rows: int = 3000) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    made = rng.random((rows, len(NAMES)), np.float32)
    made[:, RATIO] *= 2
    made[:, FRAUDS] = rng.geometric(0.7, rows) - 1
    return made


ROWS = table()
FRAUD = xgb.train(
    {"objective": "binary:logistic", "nthread": 1, "max_depth": 3},
    xgb.DMatrix(ROWS, (ROWS[:, RATIO] > 1.9) | (ROWS[:, FRAUDS] > 1)),
    10,
)
FOREST = IsolationForest(random_state=0).fit(ROWS)
EXPLAINER = Explainer(
    TRANSACTIONS,
    attribution_of(from_booster(FRAUD)),
    attribution_of(from_isolation_forest(FOREST)),
)
POLICY = TRANSACTIONS.policy


def explained(
    decision: list[int], features: NDArray[np.float32], novelty: float = 0.5, **more: Any
) -> list[tuple[str, ...]]:
    codes = np.array(decision, np.int8)
    probability, novelty_p = np.full(len(codes), 0.9), np.full(len(codes), novelty)
    base = reasons(POLICY, codes, probability, novelty_p)
    found = EXPLAINER(base, codes, probability, novelty_p, features, **more)
    return [tuple(each) for each in found]


def test_what_raised_the_score_is_named_and_the_strongest_first() -> None:
    row = table(1, 1)
    row[0, RATIO], row[0, FRAUDS] = 1.99, 0
    ((first, *told),) = explained([BLOCK], row)
    assert first == "fraud probability 0.9"
    assert told[0] == "amount 2.0 times this customer's 30-day mean"
    assert not any("known fraud" in each for each in told)
    row[0, FRAUDS] = 2
    ((_, *told),) = explained([REVIEW], row)
    assert set(told[:2]) == {
        "amount 2.0 times this customer's 30-day mean",
        "terminal had 2 known frauds in 14 days",
    }


def test_an_approval_has_no_reasons_and_is_not_explained() -> None:
    def never(_: NDArray[np.float32]) -> NDArray[np.float64]:
        raise AssertionError("an approval was explained")

    asked: Any = never
    codes = np.full(3, APPROVE, np.int8)
    nothing = reasons(POLICY, codes, np.full(3, 0.1), np.full(3, 0.9))
    found = Explainer(TRANSACTIONS, asked, asked)(
        nothing, codes, np.full(3, 0.1), np.full(3, 0.9), table(2, 3)
    )
    assert found.tolist() == [(), (), ()]


def test_what_isolates_a_novel_row_is_named() -> None:
    row = table(3, 1)
    row[0, FRAUDS] = 40
    (told,) = explained([REVIEW], row, novelty=0.001)
    assert "set apart by: terminal had 40 known frauds in 14 days" in told
    assert not any("set apart" in each for each in explained([REVIEW], row)[0])


def test_a_lane_that_was_missing_is_not_explained() -> None:
    codes = np.array([REVIEW], np.int8)
    missing, novelty_p = np.full(1, np.nan), np.full(1, 0.5)
    base = reasons(POLICY, codes, missing, novelty_p)
    found = EXPLAINER(base, codes, missing, novelty_p, table(4, 1))
    assert found[0] == base[0]


def test_rows_that_no_time_is_left_for_keep_their_plain_reasons() -> None:
    ticks = iter(range(100))
    rows = table(5, 40)
    rows[:, RATIO] = 1.99
    found = explained([BLOCK] * 40, rows, until=2, clock=lambda: next(ticks))
    assert [len(each) > 1 for each in found] == [True] * 32 + [False] * 8


def test_the_reasons_that_came_in_are_left_as_they_were() -> None:
    codes = np.array([BLOCK], np.int8)
    base = reasons(POLICY, codes, np.full(1, 0.9), np.full(1, 0.5))
    EXPLAINER(base, codes, np.full(1, 0.9), np.full(1, 0.5), table(6, 1))
    assert base.tolist() == [("fraud probability 0.9",)]
