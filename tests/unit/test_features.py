"""One feature function: the same row has the same features alone, in a batch and in training."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.dataset import DatasetDescription, load_description, parse_description
from sentinel.features import feature_set
from sentinel.transactions import Transactions, concatenate
from tests.plain import PLAIN, PLAIN_YAML

PAYMENTS = PLAIN
CARDS = load_description("creditcard")
WALLET = parse_description(
    """
name: wallet
summary: Payments from a phone wallet
id: tx-id
time: when
label: fraud
amount: value
fields:
  tx-id: {type: string, meaning: m}
  when: {type: timestamp, meaning: m}
  items: {type: integer, meaning: m, minimum: 0, optional: true}
  channel: {type: category, meaning: m, values: [app, web, shop], optional: true}
  rooted: {type: boolean, meaning: m}
  value: {type: number, meaning: m, minimum: 0}
  unused: {type: number, meaning: m}
  fraud: {type: label, meaning: m}
features: [weekend, value, {kind: log, of: items}, rooted, night, channel, items, weekday,
  {kind: log, of: value}, hour]
""",
    "wallet",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = float(np.finfo(np.float32).max)


def table(
    description: DatasetDescription, numbers: list[list[float]], times: list[int] | None = None
) -> Transactions:
    """Transactions with these numbers at these times (by default 1970)."""
    n, width = len(numbers), len(description.numbers)
    clock = times or [0] * n
    return Transactions(
        ids=pa.array([str(i) for i in range(n)], pa.string()),
        times=None if description.time == "row_order" else np.array(clock, np.int64),
        entities={name: pa.array(["k"] * n, pa.string()) for name in description.entities},
        numbers=np.array(numbers, np.float64).reshape(n, width),
    )


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def clock_of(*moment: int) -> list[float]:
    """Hour, weekday, night and weekend of a moment in UTC."""
    time = micros(datetime(*moment, tzinfo=UTC))  # type: ignore[arg-type,misc]
    return feature_set(PAYMENTS)(table(PAYMENTS, [[1.0]], [time]))[0, 2:].tolist()


def bits(features: NDArray[np.float32]) -> list[list[int]]:
    return features.view(np.uint32).tolist()


@pytest.mark.parametrize(
    ("moment", "clock"),
    [
        ((1970, 1, 1), [0, 3, 1, 0]),  # a Thursday
        ((1969, 12, 31, 23, 59, 59, 999_999), [23, 2, 0, 0]),
        ((1969, 12, 28, 6, 30), [6, 6, 1, 1]),  # a Sunday before 1970
        ((1900, 1, 1, 7), [7, 0, 0, 0]),  # a Monday
        ((2018, 8, 1, 10), [10, 2, 0, 0]),
        ((2018, 8, 3, 23, 59, 59, 999_999), [23, 4, 0, 0]),
        ((2018, 8, 4), [0, 5, 1, 1]),  # a Saturday begins
        ((2018, 8, 5, 6, 59, 59, 999_999), [6, 6, 1, 1]),
        ((2018, 8, 5, 7), [7, 6, 0, 1]),
        ((2018, 8, 6), [0, 0, 1, 0]),  # Monday again
        ((2016, 2, 29, 12), [12, 0, 0, 0]),
        ((1, 1, 1), [0, 0, 1, 0]),
        ((9999, 12, 31, 23), [23, 4, 0, 0]),
    ],
)
def test_the_clock_in_utc_is_what_the_calendar_says(
    moment: tuple[int, ...], clock: list[float]
) -> None:
    assert clock_of(*moment) == clock


@given(st.datetimes(timezones=st.just(UTC)))
def test_the_clock_agrees_with_pythons_calendar_on_every_day(moment: datetime) -> None:
    day = moment.weekday()
    expected = [moment.hour, day, moment.hour <= 6, day >= 5]
    (features,) = feature_set(PAYMENTS)(table(PAYMENTS, [[1.0]], [micros(moment)]))
    assert features[2:].tolist() == expected


def test_features_stand_in_the_order_of_the_description_under_their_names() -> None:
    assert feature_set(PAYMENTS).names == (
        "amount",
        "log_amount",
        "hour",
        "weekday",
        "night",
        "weekend",
    )
    saturday_noon = micros(datetime(2018, 8, 4, 12, tzinfo=UTC))
    rows = table(WALLET, [[3, 2, 1, math.e - 1, 99]], [saturday_noon])
    named = dict(zip(feature_set(WALLET).names, feature_set(WALLET)(rows)[0].tolist(), strict=True))
    assert named == pytest.approx(
        {
            "weekend": 1,
            "value": math.e - 1,
            "log_items": math.log(4),
            "rooted": 1,
            "night": 0,
            "channel": 2,
            "items": 3,
            "weekday": 5,
            "log_value": 1,
            "hour": 12,
        },
        rel=1e-6,
    )


def test_creditcard_passes_its_components_on_and_adds_the_log_of_the_amount() -> None:
    numbers = [float(i) / 3 - 5 for i in range(28)] + [99.0]
    (features,) = feature_set(CARDS)(table(CARDS, [numbers]))
    assert features[:29].tolist() == np.float32(numbers).tolist()
    assert features[29] == np.float32(math.log(100))


def test_small_amounts_keep_their_logarithm() -> None:
    (features,) = feature_set(PAYMENTS)(table(PAYMENTS, [[1e-12]]))
    assert features[1] == np.float32(1e-12), "log(1 + x) computed in two steps would be off"
    assert feature_set(PAYMENTS)(table(PAYMENTS, [[0.0]]))[0, :2].tolist() == [0, 0]


def test_a_missing_optional_field_is_nan_in_each_feature_made_of_it_and_in_no_other() -> None:
    rows = table(WALLET, [[math.nan, math.nan, 0, 5, 1]])
    features = dict(zip(feature_set(WALLET).names, feature_set(WALLET)(rows)[0], strict=True))
    missing = {name for name, value in features.items() if math.isnan(value)}
    assert missing == {"items", "log_items", "channel"}


@pytest.mark.parametrize("amount", [LARGEST, LARGEST * 1.0000001, 1e39, 1e300, 1.797e308])
def test_a_huge_number_keeps_its_sign_and_stays_finite(amount: float) -> None:
    for sign in (1, -1):
        (features,) = feature_set(CARDS)(table(CARDS, [[sign * amount] * 28 + [amount]]))
        assert np.isfinite(features).all()
        assert features[0] == sign * LARGEST
        assert features[29] == np.float32(math.log1p(amount))


def test_a_tiny_number_does_not_trip_over_float32() -> None:
    (features,) = feature_set(CARDS)(table(CARDS, [[-5e-324] * 28 + [1e-50]]))
    assert not features.any()


@pytest.mark.parametrize("description", [PAYMENTS, CARDS, WALLET])
def test_no_rows_have_no_features_but_their_columns(description: DatasetDescription) -> None:
    make = feature_set(description)
    features = make(table(description, []))
    assert (features.shape, features.dtype) == ((0, len(make.names)), np.float32)


def test_the_matrix_is_what_the_models_read_without_a_copy() -> None:
    features = feature_set(PAYMENTS)(table(PAYMENTS, [[1.0], [2.0]]))
    assert features.flags.c_contiguous
    assert features.flags.owndata
    assert features.dtype == np.float32


def test_what_profiles_say_stands_where_the_description_puts_it() -> None:
    description = parse_description(
        PLAIN_YAML.replace("features:", "features:\n- {kind: count, by: customer_id, over: 1d}"),
        "a test",
    )
    make = feature_set(description)
    rows = table(description, [[7.0], [8.0]])
    behaviour = np.array([[3], [4]], np.float32)
    features = make(rows, behaviour)
    assert make.names[:2] == ("customer_id_count_1d", "amount")
    assert features[:, 0].tolist() == [3, 4]
    assert bits(features[:, 1:].copy()) == bits(feature_set(PAYMENTS)(rows))
    with pytest.raises(ValueError, match="profiles"):
        make(rows)


optional = st.just(math.nan)
wallet_rows = st.tuples(
    st.integers(0, 2**40).map(float) | optional,
    st.sampled_from([0.0, 1.0, 2.0]) | optional,
    st.sampled_from([0.0, 1.0]),
    st.floats(0, allow_infinity=False),
    st.floats(allow_infinity=False, allow_nan=False),
).map(list)
times = st.datetimes(timezones=st.just(UTC)).map(micros)
wallets = st.lists(st.tuples(wallet_rows, times), min_size=1, max_size=40).map(
    lambda rows: table(WALLET, [numbers for numbers, _ in rows], [time for _, time in rows])
)


@given(wallets)
def test_features_of_a_table_are_those_of_its_rows_one_by_one_bit_for_bit(
    rows: Transactions,
) -> None:
    make = feature_set(WALLET)
    alone = [make(rows.take(np.array([at]))) for at in range(len(rows))]
    assert bits(make(rows)) == bits(np.concatenate(alone))


@given(wallets, st.data())
def test_features_of_reordered_rows_are_the_features_reordered(
    rows: Transactions, data: st.DataObject
) -> None:
    make = feature_set(WALLET)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    assert bits(make(rows.take(order))) == bits(make(rows)[order])


@given(st.lists(wallets, min_size=1, max_size=4))
def test_features_of_tables_put_together_are_their_features_put_together(
    parts: list[Transactions],
) -> None:
    make = feature_set(WALLET)
    together = concatenate(parts)
    assert bits(make(together)) == bits(np.concatenate([make(part) for part in parts]))
    assert together.ids.to_pylist() == [i for part in parts for i in part.ids.to_pylist()]


@given(wallets)
def test_features_are_never_infinite_and_leave_the_rows_as_they_were(rows: Transactions) -> None:
    before = rows.numbers.tobytes()
    features = feature_set(WALLET)(rows)
    assert not np.isinf(features).any()
    assert rows.numbers.tobytes() == before


@given(wallets, st.data())
def test_rows_can_be_taken_by_index_mask_or_slice(rows: Transactions, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    by_mask, by_index = rows.take(mask), rows.take(np.flatnonzero(mask))
    assert by_mask.ids.to_pylist() == by_index.ids.to_pylist()
    assert by_mask.times is not None
    assert rows.times is not None
    assert by_mask.times.tolist() == rows.times[mask].tolist()
    assert by_mask.numbers.tobytes() == rows.numbers[mask].tobytes()
    backwards = rows.take(slice(None, None, -1))
    assert backwards.ids.to_pylist() == rows.ids.to_pylist()[::-1]
