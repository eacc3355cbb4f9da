"""The handbook's protocol: whom a week leaves out, and what a day's hundred cards are worth."""

from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from training.protocol import DAYS, VALIDATION, Cards, card_precision

FIRST = (VALIDATION[0] - date(1970, 1, 1)).days


def cards(*deeds: tuple[int, int, int]) -> Cards:
    """Transactions (day counted from the first training day, card, fraud) in time order."""
    day, card, fraud = np.array(deeds, np.int64).T
    return Cards(day + FIRST, card, fraud.astype(np.int8))


def judged(*deeds: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Which of these deeds the first validation week judges."""
    rows = cards(*deeds).week(VALIDATION[0]).judged
    return [deeds[row] for row in rows.tolist()]


def test_the_seven_days_after_training_and_delay_are_judged() -> None:
    deeds = [(day, 100 + day, 0) for day in range(-1, 3 * DAYS + 2)]
    assert [day for day, _, _ in judged(*deeds)] == list(range(2 * DAYS, 3 * DAYS))
    week = cards(*deeds).week(VALIDATION[0])
    assert (week.train.start, week.train.stop) == (1, 1 + DAYS)


def test_a_card_with_a_fraud_in_the_training_days_is_left_out() -> None:
    assert judged((6, 1, 1), (13, 3, 0), (14, 1, 0), (14, 2, 0)) == [(14, 2, 0)]


def test_a_fraud_before_the_training_days_leaves_nobody_out() -> None:
    assert judged((-1, 1, 1), (0, 2, 0), (14, 1, 0)) == [(14, 1, 0)]


def test_a_fraud_within_the_delay_leaves_its_card_out_from_the_eighth_day_on() -> None:
    deeds = [(8, 1, 1), *((day, 1, 0) for day in range(14, 21))]
    assert [day for day, _, _ in judged(*deeds)] == [14, 15]


def test_training_on_more_days_ends_where_the_seven_end() -> None:
    table = cards(*((day, 1, 0) for day in range(-30, 21)))
    week = table.week(VALIDATION[0])
    rows = week.trained_on(table.days, 28)
    assert table.days[rows].tolist() == [FIRST + day for day in range(-21, 7)]
    assert week.trained_on(table.days, DAYS) == week.train


def test_a_table_covers_a_week_from_its_first_training_to_its_last_test_day() -> None:
    assert cards((0, 1, 0), (20, 1, 0)).covers(VALIDATION[0])
    assert not cards((0, 1, 0), (19, 1, 0)).covers(VALIDATION[0])
    assert not cards((1, 1, 0), (20, 1, 0)).covers(VALIDATION[0])


def test_a_card_counts_once_a_day_by_its_highest_score() -> None:
    found = precision([(0, 1, 0, 0.2), (0, 1, 1, 0.9), (0, 2, 0, 0.8), (0, 3, 1, 0.7)], top=2)
    assert found == 1 / 2


def test_a_card_that_was_found_is_not_looked_into_again() -> None:
    story = [(0, 1, 1, 0.9), (0, 2, 0, 0.8), (1, 1, 1, 0.9), (1, 2, 1, 0.8), (1, 3, 1, 0.7)]
    # The first day finds card 1; so the second day's best two are 2 and 3.
    assert precision(story, top=2) == (1 / 2 + 2 / 2) / 2


def test_a_day_with_few_cards_is_still_held_to_as_many_as_can_be_looked_into() -> None:
    assert precision([(0, 1, 1, 0.9)], top=100) == 1 / 100


def test_the_cards_of_a_longer_story_are_worth_what_counting_them_says() -> None:
    rng = np.random.default_rng(0)
    size = 3_000
    day = np.sort(rng.integers(0, 7, size))
    card, fraud = rng.integers(0, 400, size), (rng.random(size) < 0.1).astype(np.int8)
    score = rng.permutation(size) / size
    assert card_precision(day, card, fraud, score, 20) == pytest.approx(
        counted(day, card, fraud, score, 20)
    )


def precision(deeds: list[tuple[int, int, int, float]], top: int) -> float:
    day, card, fraud, score = zip(*deeds, strict=True)
    columns = (np.array(day), np.array(card), np.array(fraud, np.int8), np.array(score))
    return card_precision(*columns, top)


def counted(
    day: NDArray[np.int64],
    card: NDArray[np.int64],
    fraud: NDArray[np.int8],
    score: NDArray[np.float64],
    top: int,
) -> float:
    """The definition, with lists."""
    found: set[int] = set()
    shares = []
    for one in range(7):
        best: dict[int, float] = {}
        bad = set()
        for row in np.flatnonzero(day == one).tolist():
            if int(card[row]) not in found:
                best[int(card[row])] = max(best.get(int(card[row]), -1), score[row])
                if fraud[row]:
                    bad.add(int(card[row]))
        hits = bad & set(sorted(best, key=lambda each: -best[each])[:top])
        found |= hits
        shares.append(len(hits) / top)
    return float(np.mean(shares))
