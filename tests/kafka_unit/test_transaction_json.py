"""What is sent is what ``/predict`` reads: the parser gives back the very same transactions."""

import numpy as np
import pyarrow as pa
import pytest

from kafka_ingest.keys import record_keys
from kafka_ingest.transaction_json import TransactionJson
from sentinel.dataset import DatasetDescription, load_description, parse_description
from sentinel.made_up import random_transactions
from sentinel.parse_json import JsonParser
from sentinel.transactions import Transactions

EVERY_TYPE = """
name: every
summary: A field of each type, some of them optional.
id: tx-id
time: when
label: fraud
amount: paid
entities: [card]
fields:
  tx-id: {type: string, meaning: id}
  when: {type: timestamp, meaning: time}
  card: {type: string, meaning: card}
  paid: {type: number, minimum: 0, meaning: amount}
  items: {type: integer, optional: true, meaning: things bought}
  class: {type: category, values: [a, "b\\"c"], optional: true, meaning: kind}
  online: {type: boolean, optional: true, meaning: on the internet}
  odds: {type: number, optional: true, meaning: any number}
  fraud: {type: label, meaning: label}
features: [paid]
"""


@pytest.mark.parametrize(
    "description",
    [
        load_description("transactions"),
        load_description("creditcard"),
        parse_description(EVERY_TYPE, "every"),
    ],
    ids=lambda one: one.name,
)
def test_the_parser_reads_back_what_was_written(description: DatasetDescription) -> None:
    wrote = random_transactions(description, 300, np.random.default_rng(1), now=1_600_000_000.25)
    values = TransactionJson(description).values(wrote)
    parser = JsonParser(description)
    read = [parser.one(value) for value in values]
    assert [one.ids[0].as_py() for one in read] == wrote.ids.to_pylist()
    np.testing.assert_array_equal(np.concatenate([one.numbers for one in read]), wrote.numbers)
    for name, column in wrote.entities.items():
        assert [one.entities[name][0].as_py() for one in read] == column.to_pylist()
    if wrote.times is not None:
        assert [int(one.times[0]) for one in read if one.times is not None] == wrote.times.tolist()


def test_the_key_is_the_customer_else_the_transaction() -> None:
    rng = np.random.default_rng(1)
    for name, of in (("transactions", "customer_id"), ("creditcard", "")):
        description = load_description(name)
        made = random_transactions(description, 5, rng, now=1_600_000_000)
        expected = (made.entities[of] if of else made.ids).to_pylist()
        assert record_keys(made, description) == [one.encode() for one in expected]


def test_names_that_json_must_escape_arrive_whole() -> None:
    description = load_description("transactions")
    odd = ['"', "\\", "é", "\u2028", "\n"]
    made = Transactions(
        ids=pa.array(odd),
        times=np.array([0, 1, 1_000_000, -1, 253_402_300_799_999_999], np.int64),
        entities={"customer_id": pa.array(odd), "terminal_id": pa.array(odd)},
        numbers=np.array([[0.0], [0.1], [1e15], [1e-7], [1.7976931348623157e308]]),
    )
    read = [JsonParser(description).one(v) for v in TransactionJson(description).values(made)]
    assert [one.ids[0].as_py() for one in read] == odd
    assert [float(one.numbers[0, 0]) for one in read] == made.numbers[:, 0].tolist()
    assert made.times is not None
    assert [int(one.times[0]) for one in read if one.times is not None] == made.times.tolist()
