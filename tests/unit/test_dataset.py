"""A dataset description is either wholly usable or refused in one line that says what to change."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sentinel.dataset import (
    DatasetDescription,
    load_description,
    parse_description,
    shipped_datasets,
)
from sentinel.errors import DescriptionError
from sentinel.fields import FieldRule, field_rules
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser

WALLET = """
name: wallet
summary: Payments from a phone wallet
id: tx-id
time: paid at
label: class
amount: value
entities: [payer]
fields:
  tx-id: {type: string, meaning: identifies the payment}
  paid at: {type: timestamp, meaning: when it was paid}
  payer: {type: string, meaning: who paid}
  value: {type: number, meaning: what was paid, unit: EUR, minimum: 0, aliases: [VALUE]}
  items: {type: integer, meaning: how many things, minimum: 1, maximum: 99, optional: true}
  rooted: {type: boolean, meaning: whether the phone is rooted}
  channel: {type: category, meaning: how, values: [app, web], optional: true}
  class: {type: label, meaning: 1 for fraud}
features: [value, {kind: log, of: value}, items, rooted, channel, hour, night]
policy: {review_cost: 3, false_block: {fixed: 1, per_amount: 0.5}}
"""
"""A user's own description: every type, and names that are no identifiers."""


def refusal(text: str) -> str:
    """What the user reads instead of a description: always one line that starts with the file."""
    with pytest.raises(DescriptionError) as refused:
        parse_description(text, "wallet.yaml")
    message = str(refused.value)
    assert message.startswith("wallet.yaml: ")
    assert "\n" not in message
    return message.removeprefix("wallet.yaml: ")


def wallet(old: str = "", new: str = "") -> str:
    """The description with one change."""
    assert old in WALLET
    return WALLET.replace(old, new, 1)


# --- what is accepted ---------------------------------------------------------------------------


def test_the_two_shipped_descriptions_load_under_their_own_names() -> None:
    assert shipped_datasets() == ("creditcard", "transactions")
    for name in shipped_datasets():
        assert load_description(name).name == name


def test_the_transactions_are_the_ones_the_product_promises() -> None:
    description = load_description("transactions")
    assert list(description.inputs) == [
        "transaction_id",
        "timestamp",
        "customer_id",
        "terminal_id",
        "amount",
    ]
    assert (description.label, description.entities) == (
        "is_fraud",
        ("customer_id", "terminal_id"),
    )
    assert description.fields["timestamp"].aliases == ("TX_DATETIME",)


def test_creditcard_has_28_components_and_an_amount_and_no_clock() -> None:
    description = load_description("creditcard")
    assert list(description.numbers) == [f"V{i}" for i in range(1, 29)] + ["Amount"]
    assert (description.time, description.entities, description.label) == ("row_order", (), "Class")


def test_a_users_own_description_loads_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "wallet.yaml"
    file.write_text(WALLET, encoding="utf-8")
    description = load_description(str(file))
    assert list(description.numbers) == ["value", "items", "rooted", "channel"]
    assert "class" not in description.inputs
    assert [f.kind for f in description.features][-2:] == ["hour", "night"]
    assert description.policy.false_block.per_amount == 0.5
    assert description.policy.missed_fraud.fixed == 50, "what is not said keeps its default"


def test_a_byte_order_mark_before_the_yaml_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "wallet.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + WALLET.encode())
    assert load_description(str(file)).name == "wallet"


def test_a_feature_written_out_without_its_kind_passes_the_field_through() -> None:
    short = parse_description(WALLET, "")
    assert parse_description(wallet("[value,", "[{of: value},"), "") == short
    assert parse_description(wallet("[value,", "[{kind: pass, of: value},"), "") == short


def test_yaml_anchors_and_merges_may_be_used_to_say_things_once() -> None:
    text = wallet(
        "rooted: {type: boolean, meaning: whether the phone is rooted}",
        "rooted: &yes {type: boolean, meaning: rooted}\n  new: {<<: *yes, meaning: a new phone}",
    )
    description = parse_description(text, "")
    assert description.fields["new"].type == "boolean"
    assert description.fields["new"].meaning == "a new phone"


def test_a_number_field_may_be_called_row_order_where_there_is_no_time() -> None:
    text = """
name: odd
summary: a table without a time column
id: id
time: row_order
label: fraud
amount: row_order
fields:
  id: {type: string, meaning: m}
  row_order: {type: number, meaning: m, minimum: 0}
  fraud: {type: label, meaning: m}
features: [row_order]
"""
    description = parse_description(text, "")
    table = pa.table({"id": ["a"], "row_order": [5]})
    for rows in (
        JsonParser(description).one(b'{"id":"a","row_order":5}'),
        ArrowParser(description).table(table).all_or_raise(),
    ):
        assert (rows.times, rows.numbers.tolist()) == (None, [[5.0]])


def test_a_description_written_back_as_yaml_reads_as_itself() -> None:
    for name in shipped_datasets():
        description = load_description(name)
        text = yaml.safe_dump(description.model_dump(mode="json"), sort_keys=False)
        assert parse_description(text, "") == description


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("amount: value", "amuont: value", "amuont: unknown key; did you mean 'amount'?"),
        ("unit: EUR", "units: EUR", "fields.value.units: unknown key; did you mean 'unit'?"),
        (
            "kind: log, of: value",
            "kind: log, field: value",
            "features.1.field: unknown key; known: kind, of",
        ),
        (
            "kind: log, of: value",
            "knid: log, of: value",
            "features.1.knid: unknown key; did you mean 'kind'?",
        ),
        (
            "review_cost",
            "reviw_cost",
            "policy.reviw_cost: unknown key; did you mean 'review_cost'?",
        ),
        (
            "per_amount",
            "per_mount",
            "policy.false_block.per_mount: unknown key; did you mean 'per_amount'?",
        ),
    ],
)
def test_an_unknown_key_is_refused_at_every_level_with_a_suggestion(
    old: str, new: str, message: str
) -> None:
    assert refusal(wallet(old, new)) == message


def test_a_key_like_no_other_is_answered_with_all_that_are_known() -> None:
    message = refusal(WALLET + "zzz: 1\n")
    assert message.startswith("zzz: unknown key; known: name, summary, id, time, label")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: tx-id", "id: tx_id", "id: there is no field 'tx_id'; did you mean 'tx-id'?"),
        ("id: tx-id", "id: value", "id: field 'value' has type number, expected string"),
        ("time: paid at", "time: payer", "time: field 'payer' has type string, expected timestamp"),
        ("label: class", "label: rooted", "label: field 'rooted' has type boolean, expected label"),
        ("amount: value", "amount: items", "amount: field 'items' has type integer"),
        ("[payer]", "[payers]", "entities: there is no field 'payers'; did you mean 'payer'?"),
        ("[payer]", "[items]", "entities: field 'items' has type integer, expected string"),
        ("[payer]", "[]", "fields.payer: a string must be the id, the time, the label or an"),
        ("time: paid at", "time: row_order", "fields.paid at: a timestamp must be the id"),
        ("unit: EUR, minimum: 0", "unit: EUR", "amount: field 'value' needs minimum: 0"),
        ("minimum: 0,", "minimum: -1,", "amount: field 'value' needs minimum: 0"),
        ("minimum: 0,", "minimum: 0, optional: true,", "amount: field 'value' cannot be optional"),
        ("id: tx-id", "id:", "id: Input should be a valid string, got None"),
        ("name: wallet", "name: Wallet", "name: String should match pattern"),
    ],
)
def test_a_role_given_to_the_wrong_field_is_refused(old: str, new: str, message: str) -> None:
    assert refusal(wallet(old, new)).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: boolean", "type: bool", "fields.rooted.type: Input should be 'string', "),
        ("values: [app, web], ", "", "fields.channel: 'values' goes with type: category"),
        ("type: boolean", "type: boolean, values: [a]", "fields.rooted: 'values' goes with"),
        ("[app, web]", "[app, app]", "fields.channel: 'values' names a value twice"),
        ("[app, web]", "[]", "fields.channel: 'values' goes with type: category"),
        ("[app, web]", "[yes, no]", "fields.channel.values.0: Input should be a valid string, got"),
        ("type: boolean", "type: boolean, minimum: 0", "fields.rooted: 'minimum' and 'maximum' go"),
        ("maximum: 99", "maximum: 0", "fields.items: minimum 1.0 is above maximum 0.0"),
        ("minimum: 0,", "minimum: .nan,", "fields.value.minimum: Input should be a finite number"),
        ("minimum: 0,", "minimum: .inf,", "fields.value.minimum: Input should be a finite number"),
        ("99", ".inf", "fields.items.maximum: Input should be a finite number, got inf"),
        ("type: string", "type: string, optional: true", "fields.tx-id: only a number, integer,"),
        ("aliases: [VALUE]", "aliases: [items]", "fields.items: 'items' already names value"),
        ("meaning: how,", "meaning: '',", "fields.channel.meaning: String should have at least"),
        ("  payer: {", "  7: {", "fields.7.[key]: Input should be a valid string, got 7"),
    ],
)
def test_a_field_that_contradicts_itself_is_refused(old: str, new: str, message: str) -> None:
    assert refusal(wallet(old, new)).startswith(message)


@pytest.mark.parametrize("name", ['pa"yer', "pa\\yer", "pa\nyer", "pa\0yer", "\ud800", ""])
def test_a_field_name_that_json_would_have_to_escape_is_refused(name: str) -> None:
    text = WALLET.replace("payer", json.dumps(name))
    assert refusal(text).startswith(f"fields: {name!r} is no name; expected printable characters")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("[valeu]", "features.0: there is no field 'valeu'; did you mean 'value'?"),
        ("[value, payer]", "features.1: field 'payer' is a string, no number"),
        ("[class]", "features.0: field 'class' is a label, no number"),
        ("[value, value]", "features: 'value' is listed twice"),
        ("[{kind: log, of: channel}]", "features.0: the logarithm of 'channel' needs minimum: 0"),
        ("[{kind: sqrt, of: value}]", "features.0: Input tag 'sqrt' found using 'kind'"),
        ("[5]", "features.0: Input should be a valid dictionary"),
        ("[]", "features: Tuple should have at least 1 item"),
        ("value", "features: Input should be a valid tuple, got 'value'"),
    ],
)
def test_a_feature_that_cannot_be_made_is_refused(features: str, message: str) -> None:
    made = "[value, {kind: log, of: value}, items, rooted, channel, hour, night]"
    assert refusal(wallet(made, features)).startswith(message)


def test_a_clock_feature_needs_a_time() -> None:
    text = wallet("time: paid at", "time: row_order").replace(
        "  paid at: {type: timestamp, meaning: when it was paid}\n", ""
    )
    assert refusal(text) == "features.5: 'hour' needs a time field"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping, got NoneType"),
        ("- name", "expected a mapping, got list"),
        ("wallet", "expected a mapping, got str"),
        ("name: [", "not YAML: "),
        ("\tname: x", "not YAML: "),
        ("name: a\0b", "not YAML: "),
        ("a: 1\n---\nb: 2", "not YAML: "),
        ("? [a]\n: b", "not YAML: "),
        ("name: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
        ("name: 2018-13-45", "not YAML: month must be in 1..12"),
        ("name: !!int x", "not YAML: "),
        ("name: !!int ''", "not YAML: "),
        ("name: !!bool x", "not YAML: "),
        ("name: !!timestamp x", "not YAML: "),
        ("name: " + "[" * 1_500 + "]" * 1_500, "not YAML: maximum recursion depth"),
        ("&a {name: *a}", "name: Input should be a valid string"),
        (WALLET + "name: again\n", "not YAML: key 'name' is given twice"),
        (wallet("unit: EUR", "unit: EUR, unit: USD"), "not YAML: key 'unit' is given twice"),
        (wallet("  payer:", "  value: {}\n  payer:"), "not YAML: key 'value' is given twice"),
        (wallet("tx-id:", "'paid at':"), "not YAML: key 'paid at' is given twice"),
    ],
)
def test_text_that_is_no_mapping_of_unique_keys_is_refused(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(WALLET.replace("wallet", "müll").encode("latin-1"))
    with pytest.raises(DescriptionError, match="not UTF-8 text"):
        load_description(str(file))


@pytest.mark.parametrize("name", ["creditcards", "", "nowhere/wallet.yaml", "/", "a\0b"])
def test_a_file_that_is_not_there_is_answered_with_the_shipped_names(name: str) -> None:
    with pytest.raises(
        DescriptionError,
        match=r"neither a file nor a shipped description \(creditcard, transactions\)",
    ):
        load_description(name)


def test_a_file_that_the_system_will_not_open_is_refused_with_its_reason() -> None:
    with pytest.raises(DescriptionError, match="cannot be read: File name too long"):
        load_description("x" * 5_000)


def junk() -> st.SearchStrategy[object]:
    """Anything YAML can hold."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
        max_leaves=6,
    )


@given(data=st.data())
def test_whatever_stands_in_a_description_it_loads_or_is_refused_in_one_line(
    data: st.DataObject,
) -> None:
    tree = yaml.safe_load(WALLET)
    places = [(tree, key) for key in tree]
    places += [(tree["fields"], key) for key in tree["fields"]]
    places += [(tree["fields"]["items"], key) for key in tree["fields"]["items"]]
    places += [(tree["features"], at) for at in range(3)] + [(tree["features"][1], "of")]
    places += [(tree["policy"], "false_block"), (tree["policy"]["false_block"], "fixed")]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(junk())
    text = yaml.safe_dump(tree, allow_unicode=True)
    try:
        description = parse_description(text, "wallet.yaml")
    except DescriptionError:
        refusal(text)
    else:
        JsonParser(description)


def test_every_rule_says_what_it_expects() -> None:
    rules: dict[str, FieldRule] = field_rules(parse_description(WALLET, ""))
    assert {name: rule.expected for name, rule in rules.items()} == {
        "tx-id": "a string of 1 to 256 characters",
        "paid at": "an RFC 3339 date and time with its offset, such as 2018-08-01T10:00:00Z",
        "payer": "a string of 1 to 256 characters",
        "value": "a finite number of 0 or more",
        "items": "a whole number from 1 to 99, or null",
        "rooted": "true or false",
        "channel": "one of app, web, or null",
    }


def test_a_description_cannot_be_changed_once_loaded() -> None:
    description: DatasetDescription = load_description("transactions")
    with pytest.raises(ValueError, match="frozen"):
        description.label = "amount"
