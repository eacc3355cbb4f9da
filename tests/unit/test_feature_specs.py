"""Behaviour features in a description: what can be made is made, all else is told in one line."""

from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sentinel.dataset import DatasetDescription, load_description, parse_description
from sentinel.errors import DescriptionError
from sentinel.feature_specs import (
    KIND,
    LONGEST_DAYS,
    RANKED,
    RISK,
    BehaviourFeature,
    feature_names,
    microseconds_of,
)
from sentinel.features import feature_set
from sentinel.profile_plan import LATENESS, profile_plan
from tests.behaviour import CUSTOMER, DAY, HOUR, MINUTE, TERMINAL, described, of
from tests.plain import PLAIN, PLAIN_YAML

COUNT = of("count", CUSTOMER, "1d")
UNUSUAL = {"by": CUSTOMER}


def read(content: Any) -> DatasetDescription:
    return parse_description(yaml.safe_dump(content, sort_keys=False), "mine.yaml")


def written(features: Any, behaviour: Any = None, **roles: Any) -> dict[str, Any]:
    """A description with these features."""
    content = {**yaml.safe_load(PLAIN_YAML), "features": features, **roles}
    return content if behaviour is None else {**content, "behaviour": behaviour}


def refusal(features: Any, behaviour: Any = None, **roles: Any) -> str:
    """What the user reads: one line that begins with the file."""
    with pytest.raises(DescriptionError) as refused:
        read(written(features, behaviour, **roles))
    message = str(refused.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    return message.removeprefix("mine.yaml: ")


# --- durations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1m", MINUTE),
        ("90m", 90 * MINUTE),
        ("9999m", 9_999 * MINUTE),
        ("1h", HOUR),
        ("24h", DAY),
        ("7d", 7 * DAY),
        ("400d", 400 * DAY),
        ("9600h", 400 * DAY),
    ],
)
def test_a_duration_is_minutes_hours_or_days(text: str, length: int) -> None:
    assert microseconds_of(text) == length


@pytest.mark.parametrize(
    "text",
    ["", "d", "0d", "01d", "-1d", "1.5d", "1 d", " 1d", "1d ", "1d\n", "1D", "1s", "1w", "1d12h",
     "10000m", "7", "7٣d", "１d", "d1", "1dd"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; expected such as 30m, 12h or 7d"):
        microseconds_of(text)
    over = refusal([{**COUNT, "over": [text]}])
    assert over.startswith(f"features.0.over.0: {text!r} is no duration; expected such as 30m")
    delay = refusal([COUNT], {"label_delay": text})
    assert delay.startswith(f"behaviour.label_delay: {text!r} is no duration; expected such as")
    unusual = refusal([COUNT], {"unusual": {**UNUSUAL, "over": text}})
    assert unusual.startswith(f"behaviour.unusual.over: {text!r} is no duration; expected such")


@pytest.mark.parametrize("text", ["401d", "9601h", "9999h", "9999d"])
def test_nothing_is_remembered_for_longer_than_so_many_days(text: str) -> None:
    message = f"{text!r} is longer than {LONGEST_DAYS}d"
    assert refusal([{**COUNT, "over": text}]).startswith(f"features.0.over.0: {message}")
    assert refusal([COUNT], {"label_delay": text}).startswith(f"behaviour.label_delay: {message}")


@given(st.text(max_size=6))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        length = microseconds_of(text)
    except ValueError:
        return
    assert MINUTE <= length <= LONGEST_DAYS * DAY
    assert text == text.strip()


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": "custmer_id"}, "features.0: by: there is no entity 'custmer_id'; known: "
                               "customer_id, terminal_id"),
        ({"by": "amount"}, "features.0: by: there is no entity 'amount'; known: "),
        ({"by": None}, "features.0.by: Input should be a valid string, got None"),
        ({"by": [CUSTOMER]}, "features.0.by: Input should be a valid string"),
        ({"over": []}, "features.0.over: Tuple should have at least 1 item"),
        ({"over": 7}, "features.0.over: Input should be a valid tuple, got 7"),
        ({"over": [7]}, "features.0.over.0: Input should be a valid string, got 7"),
        ({"over": None}, "features.0.over: Input should be a valid tuple, got None"),
        ({"over": {"1d": "7d"}}, "features.0.over: Input should be a valid tuple"),
        ({"over": ["1d", "7d", "1d"]}, "features.0: 'over' names a window twice"),
        ({"over": ["1d", "24h"]}, "features.0: 'over' names a window twice"),
        ({"over": [f"{day}d" for day in range(1, 10)]}, "features.0.over: Tuple should have at "
                                                        "most 8 items"),
        ({"ovre": "1d"}, "features.0.ovre: unknown key; did you mean 'over'?"),
        ({"of": "amount"}, "features.0.of: unknown key; "),
        ({"kind": "cuont"}, "features.0: Input tag 'cuont' found using 'kind'"),
        ({"at": TERMINAL}, "features.0: 'at' goes with kind: first_at, which needs it"),
        ({"kind": "first_at"}, "features.0: 'at' goes with kind: first_at, which needs it"),
        ({"kind": "first_at", "at": "shop"}, "features.0: at: there is no entity 'shop'; known: "),
        ({"kind": "first_at", "at": CUSTOMER}, "features.0: at: 'customer_id' is the entity "
                                               "itself"),
        ({"kind": "unusual_share"}, "behaviour.unusual: a feature asks for it, and it is not "
                                    "said"),
        ({"kind": "unusual_days"}, "behaviour.unusual: a feature asks for it, and it is not said"),
        ({"kind": "ordinary_frauds"}, "behaviour.unusual: a feature asks for it, and it is not"),
        ({"kind": "tail", "over": ["1d", "7d"]}, "features: those of customer_id that sort "
                                                 "amounts (median, ratio_median, spread, tail, "
                                                 "zscore) must share one window; they have 1d, 7d"),
    ],
)  # fmt: skip
def test_a_feature_that_cannot_be_made_is_told_with_its_place_and_what_was_expected(
    changes: dict[str, Any], message: str
) -> None:
    assert refusal([{**COUNT, **changes}]).startswith(message)


@pytest.mark.parametrize("key", ["by", "over"])
def test_a_key_that_is_not_there_is_told(key: str) -> None:
    feature = {name: value for name, value in COUNT.items() if name != key}
    assert refusal(["amount", feature]) == f"features.1.{key}: Field required"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([of("tail", CUSTOMER, "1d"), of("median", CUSTOMER, "7d")], "they have 1d, 7d"),
        ([COUNT, of("count", CUSTOMER, "7d", "1d")], "'customer_id_count_1d' is listed twice"),
        (
            [of("first_at", CUSTOMER, "1d", at=TERMINAL)] * 2,
            "'customer_id_first_at_terminal_id_1d' is listed twice",
        ),
    ],
)
def test_features_that_cannot_stand_together_are_told(features: list[Any], message: str) -> None:
    assert message in refusal(features)


def test_two_entities_may_sort_amounts_over_windows_of_their_own() -> None:
    read(written([of("tail", CUSTOMER, "1d"), of("tail", TERMINAL, "7d")]))


def test_first_at_looks_for_one_entity_alone() -> None:
    content = written([of("first_at", CUSTOMER, "1d", at=at) for at in (TERMINAL, "bank")])
    content["fields"]["bank"] = {"type": "string", "meaning": "whose terminal it is"}
    content["entities"].append("bank")
    with pytest.raises(DescriptionError, match="first_at of customer_id can look for one entity"):
        read(content)


def test_a_table_without_a_time_has_no_behaviour() -> None:
    content = written([COUNT], time="row_order")
    del content["fields"]["timestamp"]
    with pytest.raises(DescriptionError) as refused:
        read(content)
    assert str(refused.value) == "mine.yaml: features.0: 'count' needs a time field"


def test_a_table_without_entities_has_no_behaviour() -> None:
    content = written([COUNT], entities=[])
    for name in (CUSTOMER, TERMINAL):
        del content["fields"][name]
    with pytest.raises(DescriptionError, match="there is no entity 'customer_id'; known: none"):
        read(content)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"delay": "7d"}, "behaviour.delay: unknown key; did you mean 'label_delay'?"),
        ({"label_delay": 7}, "behaviour.label_delay: Input should be a valid string, got 7"),
        ({"label_delay": None}, "behaviour.label_delay: Input should be a valid string, got None"),
        ({"unusual": {}}, "behaviour.unusual.by: Field required"),
        ({"unusual": {"by": "shop"}}, "behaviour.unusual.by: there is no entity 'shop'; known: "),
        ({"unusual": {**UNUSUAL, "abvoe": 1}}, "behaviour.unusual.abvoe: unknown key; did you "
                                               "mean 'above'?"),
        ({"unusual": {**UNUSUAL, "above": 0}}, "behaviour.unusual.above: Input should be greater "
                                               "than 0, got 0"),
        ({"unusual": {**UNUSUAL, "above": float("inf")}}, "behaviour.unusual.above: Input should "
                                                          "be a finite number, got inf"),
        ({"unusual": {**UNUSUAL, "least": 0}}, "behaviour.unusual.least: Input should be greater "
                                               "than or equal to 1, got 0"),
        ({"unusual": {**UNUSUAL, "least": 101}}, "behaviour.unusual.least: Input should be less "
                                                 "than or equal to 100, got 101"),
        ([], "behaviour: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_what_all_features_share_is_told_where_it_is_wrong(behaviour: Any, message: str) -> None:
    assert refusal([COUNT], behaviour).startswith(message)


def test_what_is_unusual_is_not_to_be_said_where_nothing_has_a_profile() -> None:
    message = refusal(["amount"], {"unusual": UNUSUAL})
    assert message == "behaviour.unusual: no feature of this description has a profile"


# --- what is made of them -------------------------------------------------------------------------


def test_every_kind_is_a_feature_and_has_a_name_for_each_window() -> None:
    kinds = [kind for kind, model in KIND.items() if model is BehaviourFeature]
    assert len(kinds) == 23
    assert set(kinds) >= RANKED | RISK
    for kind in kinds:
        at = TERMINAL if kind == "first_at" else None
        feature = BehaviourFeature(kind=kind, by=CUSTOMER, over=("1d", "12h"), at=at)  # type: ignore[arg-type]
        what = "first_at_terminal_id" if at else kind
        names = (f"customer_id_{what}_1d", f"customer_id_{what}_12h")
        assert feature_names(feature) == names


def test_one_window_may_be_written_without_a_list() -> None:
    one, many = ({**COUNT, "over": over} for over in ("1d", ["1d"]))
    assert read(written([one])) == read(written([many]))


def test_features_of_profiles_stand_where_the_description_lists_them() -> None:
    description = described(
        ["amount", of("tail", TERMINAL, "7d"), "hour", of("count", CUSTOMER, "7d", "1d"), "night"],
        {},
    )
    plan = profile_plan(description)
    assert plan is not None
    assert plan.keys == (CUSTOMER, TERMINAL)
    assert plan.columns.tolist() == [3, 4, 1]
    assert feature_set(description).names == (
        "amount", "terminal_id_tail_7d", "hour", "customer_id_count_7d", "customer_id_count_1d",
        "night",
    )  # fmt: skip


def test_a_plan_keeps_what_its_longest_window_needs_and_a_week_more() -> None:
    plan = profile_plan(
        described(
            [COUNT, of("known_count", CUSTOMER, "3d"), of("sum", TERMINAL, "2d")],
            {"label_delay": "5d", "unusual": {"by": TERMINAL, "over": "30d"}},
        )
    )
    assert plan is not None
    horizons = {each.entity: each.horizon for each in plan.entities}
    assert horizons == {TERMINAL: 30 * DAY, CUSTOMER: 8 * DAY}
    assert list(horizons) == [TERMINAL, CUSTOMER], "the one that says what is unusual comes first"
    assert plan.entities[0].keep == 30 * DAY + LATENESS
    assert plan.entities[1].windows.tolist() == [DAY]
    assert plan.entities[1].risk_windows.tolist() == [3 * DAY]


def test_who_says_what_is_unusual_has_a_profile_without_any_feature() -> None:
    plan = profile_plan(
        described([of("unusual_share", TERMINAL, "1d")], {"unusual": {"by": CUSTOMER}})
    )
    assert plan is not None
    assert plan.keys == (CUSTOMER, TERMINAL)
    assert plan.columns.tolist() == [0]
    assert plan.entities[0].ops.tolist() == []


def test_features_of_the_row_alone_need_no_profiles() -> None:
    assert profile_plan(PLAIN) is None
    assert profile_plan(load_description("creditcard")) is None
    assert feature_set(PLAIN).plan is None


def test_the_shipped_description_takes_labels_after_a_week() -> None:
    description = load_description("transactions")
    plan = profile_plan(description)
    assert description.behaviour.label_delay == "7d"
    assert plan is not None
    assert plan.delay == 7 * DAY
    assert len(np.unique(plan.columns)) == len(plan.columns)
    assert len(feature_set(description).names) == len(plan.columns) + 2


def test_a_description_with_behaviour_written_back_reads_as_itself() -> None:
    for description in (load_description("transactions"), described()):
        content = description.model_dump(mode="json")
        assert read(content) == description


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=4)
    | st.sampled_from(["1d", "7d", CUSTOMER, TERMINAL, "count", "tail", "first_at"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=2),
    max_leaves=5,
)  # fmt: skip


@given(st.data())
def test_whatever_stands_in_them_a_description_loads_or_is_refused_in_one_line(
    data: st.DataObject,
) -> None:
    feature = {**of("first_at", CUSTOMER, "1d", at=TERMINAL)}
    unusual = {"by": CUSTOMER, "over": "30d", "above": 3, "least": 3}
    content = written([feature, of("tail", CUSTOMER, "7d")], {"label_delay": "7d"})
    content["behaviour"]["unusual"] = unusual
    places = [(feature, key) for key in feature] + [(unusual, key) for key in unusual]
    places += [(content["behaviour"], "label_delay"), (content["behaviour"], "unusual")]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(junk)
    try:
        description = read(content)
    except DescriptionError as error:
        message = str(error)
    else:
        plan, message = profile_plan(description), ""
        assert plan is not None
    assert "\n" not in message
