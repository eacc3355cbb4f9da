"""``sentinel benchmark unseen``: what is found of a fraud that nobody has ever labelled.

One of the handbook's three scenarios is left out at a time: its frauds are dropped from training,
or kept and labelled 0, as where nobody noticed them; what profiles know of terminals rests on the
other labels alone. Weeks, label delay and known cards are those of ``protocol``. Every variant may
have 100 cards a day looked into. *Recall* is the share of compromised cards (a card on a day) that
were: of the unseen scenario, and of the two known ones. A card found on one day counts as found on
the later ones, for it is blocked by then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xgboost as xgb
from numpy.typing import NDArray

from sentinel.dataset import load_description
from sentinel.errors import TableError
from sentinel.history import table_features
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.table import LabelledTable, read_table
from sentinel.trees import to_booster
from training.false_alarms import false_alarms
from training.fit import FINE_BINS, Features, default_parameters, training_threads
from training.novelty import fit_forest, novelty_columns
from training.protocol import CARDS, TEST, VALIDATION, Cards, Week, last_day
from training.quality import Labels, Reals
from training.unseen_report import BASELINE, Key, Tally, report

SCENARIOS = (1, 2, 3)
COLUMNS = ("TX_FRAUD_SCENARIO", "scenario")
"""Names of the column that says which scenario a fraud is of; 0 where it is none."""

MODES = (DROPPED, MISLABELLED) = ("dropped", "mislabelled")

ROUNDS = 100
"""Of every XGBoost here: what early stopping came to on seven such days; that every variant has the
same matters more."""

FOLDS = 2
"""Parts of the training rows; each gets its forest score from a forest of the others."""

NOVELTY_CARDS = 40
"""Cards of the hundred that the novelty lane chooses, where there are two lanes."""

OnStep = Callable[[str], None]
Plan = Sequence[tuple[Reals, int]]
"""Scores (m,) of the judged rows, and how many cards the day's highest of each may choose: one lane
after the other, each of cards that those before it did not choose."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The table while one scenario is unseen: ``cards`` and (n, f) ``features`` by the labels that
    are seen; ``unseen`` (n,) marks the frauds that are not."""

    cards: Cards
    features: Features
    unseen: NDArray[np.bool_]
    columns: NDArray[np.intp]
    """Of the features, those that the novelty lane looks at."""


def benchmark_unseen(path: str, on_step: OnStep = lambda _: None) -> dict[str, Any]:
    """The result of ``sentinel benchmark unseen --json``.

    :raises TableError: the file cannot be used, lacks the scenarios, or ends too early.
    """
    on_step("reading the table")
    table = read_table(path, load_description("transactions"))
    scenario = read_scenarios(path, len(table))
    cards = Cards.of(table)
    if not all(cards.covers(start) for start in VALIDATION):
        raise TableError(f"{path}: ends on {last_day(cards)}, before the validation weeks do")
    starts = [*VALIDATION, *(TEST if cards.covers(TEST[-1]) else ())]
    tallies: dict[Key, list[Tally]] = {}
    for left_out in SCENARIOS:
        on_step(f"scenario {left_out}: making features without its labels")
        scene = scene_of(table, scenario, left_out)
        for start in starts:
            for mode in MODES:
                on_step(f"scenario {left_out} {mode}: {start}")
                week = scene.cards.week(start)
                period = "validation" if start in VALIDATION else "test"
                for variant, plan in plans(scene, week, mode).items():
                    seen = look(scene.cards, scene.unseen, week.judged, plan)
                    tallies.setdefault((period, left_out, mode, variant), []).append(seen)
    on_step("judging the novelty lane's false alarms")
    features, _ = table_features(table)
    columns = novelty_columns(table.description)
    return {
        "cards_a_day": CARDS,
        **report(tallies),
        "false_alarms": false_alarms(cards, features, columns, starts),
    }


def read_scenarios(path: str, rows: int) -> NDArray[np.int8]:
    """(n,) the scenario of each fraud of the file, 0 elsewhere.

    :raises TableError: the file does not say, or has other rows.
    """
    names = pq.read_schema(path).names
    name = next((name for name in COLUMNS if name in names), None)
    if name is None:
        raise TableError(f"{path}: has no column {' or '.join(COLUMNS)}, expected one")
    found: NDArray[np.int8] = pq.read_table(path, columns=[name]).column(0).to_numpy()
    if len(found) != rows:
        raise TableError(f"{path}: {len(found)} rows have a scenario, {rows} were read")
    return found.astype(np.int8)


def scene_of(table: LabelledTable, scenario: NDArray[np.int8], left_out: int) -> Scene:
    """The table with the labels of one scenario taken away."""
    seen = np.where(scenario == left_out, 0, table.labels).astype(np.int8)
    told = replace(table, labels=seen)
    features, _ = table_features(told)
    unseen = (scenario == left_out) & (table.labels == 1)
    return Scene(Cards.of(told), features, unseen, novelty_columns(table.description))


def plans(scene: Scene, week: Week, mode: str, seed: int = 0) -> dict[str, Plan]:
    """How each variant would choose the cards of a week, trained on the days before it."""
    rows = np.arange(week.train.start, week.train.stop)
    if mode == DROPPED:
        rows = rows[~scene.unseen[rows]]
    train, judged = scene.features[rows], scene.features[week.judged]
    labels = scene.cards.fraud[rows]
    usual = train[labels == 0]
    everything = np.arange(train.shape[1])
    fraud = _boosted(train, labels, judged)
    forest = _forest_scores(usual, everything, judged, seed)
    novelty = _forest_scores(usual, scene.columns, judged, seed)
    helped = _boosted(
        np.column_stack([train, _out_of_fold(train, labels, scene.columns, seed)]),
        labels,
        np.column_stack([judged, novelty]),
    )
    return {
        BASELINE: [(fraud, CARDS)],
        "forest of all features": [(forest, CARDS)],
        "novelty lane": [(novelty, CARDS)],
        "novelty as a feature": [(helped, CARDS)],
        "higher of the two ranks": [(np.maximum(_ranks(fraud), _ranks(novelty)), CARDS)],
        f"two lanes, {NOVELTY_CARDS} of novelty": [
            (fraud, CARDS - NOVELTY_CARDS),
            (novelty, NOVELTY_CARDS),
        ],
    }


def look(cards: Cards, unseen: NDArray[np.bool_], rows: NDArray[np.intp], plan: Plan) -> Tally:
    """What looking into the cards that a plan chooses finds, day by day."""
    known: set[int] = set()
    totals, hits = [], []
    days = cards.days[rows]
    for day in np.unique(days):
        today = days == day
        card, here = cards.card[rows[today]], rows[today]
        looked = _chosen(card, [(score[today], most) for score, most in plan], known)
        found = looked | known
        kinds = unseen[here], cards.fraud[here] == 1
        compromised = [np.unique(card[kind]).tolist() for kind in kinds]
        totals.append([len(each) for each in compromised])
        hits.append([sum(one in found for one in each) for each in compromised])
        known |= looked & {one for each in compromised for one in each}
    return Tally(np.array(totals), np.array(hits))


def _chosen(card: NDArray[np.int64], plan: Plan, known: set[int]) -> set[int]:
    """The cards that are looked into on a day, less those found before."""
    chosen: set[int] = set()
    for score, most in plan:
        left = most
        for one in card[np.argsort(-score, kind="stable")].tolist():
            if not left:
                break
            if one not in chosen and one not in known:
                chosen.add(one)
                left -= 1
    return chosen


def _boosted(train: Features, labels: Labels, judged: Features) -> Reals:
    threads = training_threads(train)
    parameters = {**default_parameters(train.shape[1]), "max_bin": FINE_BINS, "nthread": threads}
    matrix = xgb.QuantileDMatrix(train, labels, max_bin=FINE_BINS, nthread=threads)
    booster = xgb.train(parameters, matrix, ROUNDS)
    return np.asarray(booster.inplace_predict(judged, predict_type="margin"), np.float64)


def _forest_scores(
    usual: Features, columns: NDArray[np.intp], judged: Features, seed: int
) -> Reals:
    """By the trees that are served."""
    model = bytes(to_booster(fit_forest(usual, columns, seed)).save_raw("ubj"))
    return anomaly_score(TreeModel(model).margin(judged))


def _out_of_fold(train: Features, labels: Labels, columns: NDArray[np.intp], seed: int) -> Reals:
    """(n,) novelty of the training rows, each by a forest that did not see it."""
    found = np.empty(len(train))
    fold = np.arange(len(train)) * FOLDS // len(train)
    for part in range(FOLDS):
        usual = train[(fold != part) & (labels == 0)]
        found[fold == part] = _forest_scores(usual, columns, train[fold == part], seed)
    return found


def _ranks(score: Reals) -> Reals:
    """(n,) the share of the rows that score no more."""
    return np.searchsorted(np.sort(score), score, side="right") / len(score)
