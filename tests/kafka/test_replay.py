"""``sentinel replay`` on real brokers."""

import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kafka_ingest.connection import Connection, KafkaFailed
from kafka_ingest.keys import record_keys
from kafka_ingest.merged import MergedRecords
from kafka_ingest.transaction_json import TransactionJson
from sentinel.answers import each_json
from sentinel.bundle import open_bundle
from sentinel.dataset import load_description
from sentinel.history import History
from sentinel.parse_arrow import ArrowParser
from sentinel.profile_plan import profile_plan
from sentinel.scoring import score_offline
from sentinel.transactions import Transactions
from tests.kafka.brokers import Brokers, Record
from tests.kafka.commands import Started, count, result_of, sentinel, wait_until

ROWS = 3_000
DESCRIPTION = load_description("transactions")


@pytest.fixture(scope="module")
def rows(transactions_file: Path) -> Transactions:
    table = pq.read_table(transactions_file).slice(0, ROWS)
    return ArrowParser(DESCRIPTION).table(table.drop_columns(["scenario"])).all_or_raise()


def send(
    kafka: Brokers,
    topic: str,
    rows: Transactions,
    extra: Sequence[bytes] = (),
    *,
    transactional: bool = False,
) -> None:
    """Each with the time of its transaction, by key into three partitions; ``extra`` after them."""
    # By these times they are years old, and Kafka would delete them a minute after it started.
    kafka.create(topic, partitions=3, config={"retention.ms": "-1"})
    with_id = {"transactional.id": topic} if transactional else {"enable.idempotence": True}
    producer = Producer({**kafka.client, **with_id, "partitioner": "murmur2_random"})
    if transactional:
        producer.init_transactions(60)
        producer.begin_transaction()
    assert rows.times is not None
    values, keys = TransactionJson(DESCRIPTION).values(rows), record_keys(rows, DESCRIPTION)
    stamps = (rows.times // 1000).tolist()
    for value, key, at_ms in zip(values, keys, stamps, strict=True):
        producer.produce(topic, value, key, timestamp=at_ms)
    for value in extra:
        producer.produce(topic, value, b"extra", timestamp=stamps[-1])
    if transactional:
        producer.commit_transaction(60)
    assert producer.flush(60) == 0


def replay(kafka: Brokers, source: str, bundle: str, *more: str) -> tuple[str, ...]:
    where = ("--bootstrap-servers", kafka.bootstrap, "--input", source)
    return ("replay", *where, "--output", f"{source}.again", "--bundle", bundle, *more)


def answers(records: Sequence[Record]) -> dict[str, bytes]:
    """By transaction; each must be there once."""
    found = {msgspec.json.decode(one.value or b"")["transaction_id"]: one.value for one in records}
    assert len(found) == len(records)
    return {name: value or b"" for name, value in found.items()}


def expected(bundle: str, rows: Transactions, since: int = 0) -> dict[str, bytes]:
    """What scoring them offline says, profiles beginning with the first of them."""
    opened = open_bundle(bundle)
    judge, plan = opened.judge(), profile_plan(DESCRIPTION)
    assert plan is not None
    behaviour = History(DESCRIPTION, plan).note(rows)
    some = np.arange(since, len(rows))
    decisions = score_offline(judge, opened.lanes(threads=1), rows.take(some), behaviour[some])
    return dict(zip(rows.ids.take(some).to_pylist(), each_json(decisions), strict=True))


def wait_for_more_than(least: int, kafka: Brokers, topic: str) -> None:
    wait_until(lambda: count(kafka, topic) > least, f"more than {least} decisions")


def test_a_replay_decides_as_scoring_the_same_rows_in_order_does(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    conflict = TransactionJson(DESCRIPTION).values(rows.take(np.array([5])))[0]
    send(kafka, prefix, rows, [b"{}", conflict.replace(b'"amount":', b'"amount":9')])
    result = result_of(*replay(kafka, prefix, transactions_bundle))
    assert result["records"] == ROWS + 2
    assert (result["decisions"], result["refused"]) == (ROWS, 2)
    assert result["profiles"] == "cold", "the bundle's end after these rows begin"
    read = kafka.read(f"{prefix}.again")
    assert answers(read) == expected(transactions_bundle, rows)


def test_killed_and_run_again_it_ends_as_if_it_had_not_been(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    send(kafka, prefix, rows)
    command = replay(kafka, prefix, transactions_bundle, "--batch", "8")
    for least in (ROWS // 4, ROWS // 2):
        with Started(*command) as running:
            wait_for_more_than(least, kafka, f"{prefix}.again")
            running.tell(signal.SIGKILL)
            assert running.ended()[0] == -signal.SIGKILL
    result = result_of(*command)
    assert 0 < result["done_before"] < ROWS
    assert result["decisions"] == ROWS - result["done_before"]
    read = kafka.read(f"{prefix}.again")
    assert answers(read) == expected(transactions_bundle, rows)
    assert {one.key for one in read} == set(record_keys(rows, DESCRIPTION))


def test_what_is_complete_is_not_done_again(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    some = rows.take(slice(0, 200))
    send(kafka, prefix, some, transactional=True)
    command = replay(kafka, prefix, transactions_bundle)
    assert result_of(*command)["decisions"] == 200
    again = sentinel(*command)
    assert "complete already" in again.stderr
    assert len(answers(kafka.read(f"{prefix}.again"))) == 200


def test_told_to_stop_it_says_how_to_go_on(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    send(kafka, prefix, rows.take(slice(0, 800)))
    command = replay(kafka, prefix, transactions_bundle, "--batch", "10")
    with Started(*command) as running:
        wait_for_more_than(20, kafka, f"{prefix}.again")
        running.tell(signal.SIGTERM)
        code, said = running.ended()
    assert code == 1
    assert "stopped; the same command goes on" in said
    sentinel(*command)
    assert len(answers(kafka.read(f"{prefix}.again"))) == 800


def test_a_range_by_time_takes_the_records_of_that_time(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    send(kafka, prefix, rows)
    assert rows.times is not None
    since, until = ROWS // 3, 2 * ROWS // 3
    bounds = [str(np.datetime64(int(rows.times[at]), "us")) + "Z" for at in (since, until)]
    sentinel(*replay(kafka, prefix, transactions_bundle, "--from", bounds[0], "--until", bounds[1]))
    meant = (rows.times >= rows.times[since]) & (rows.times < rows.times[until])
    names = set(rows.take(meant).ids.to_pylist())
    assert answers(kafka.read(f"{prefix}.again")).keys() == names


def test_a_range_by_offsets_takes_those_of_each_partition(
    kafka: Brokers, prefix: str, rows: Transactions, transactions_bundle: str
) -> None:
    send(kafka, prefix, rows)
    bounds = ("--from", "100", "--until", "0:150,1:100,2:103")
    result = result_of(*replay(kafka, prefix, transactions_bundle, *bounds))
    meant = [
        one
        for one in kafka.read(prefix)
        if 100 <= one.offset < {0: 150, 1: 100, 2: 103}[one.partition]
    ]
    assert result["decisions"] == len(meant) == 53
    names = {msgspec.json.decode(one.value or b"")["transaction_id"] for one in meant}
    assert answers(kafka.read(f"{prefix}.again")).keys() == names
    said = sentinel(*replay(kafka, prefix, transactions_bundle, "--from", "7:1"), ok=False).stderr
    assert f"--from: topic '{prefix}' has no partition 7; expected 0 to 2" in said


def test_records_that_retention_removes_meanwhile_are_missed_and_said_so(
    kafka: Brokers, prefix: str
) -> None:
    kafka.create(prefix)
    kafka.send(prefix, [b"{}"] * 10)
    admin = AdminClient(kafka.client)  # its answers come only while it lives
    for removed in admin.delete_records([TopicPartition(prefix, 0, 5)]).values():
        removed.result(30)
    records = MergedRecords(Connection.of(kafka.bootstrap), prefix, prefix, {0: (0, 10)})
    with pytest.raises(KafkaFailed, match="no longer there: its retention"):
        list(records.batches(10))


def test_its_output_cannot_be_its_input(
    kafka: Brokers, prefix: str, transactions_bundle: str
) -> None:
    where = ("--bootstrap-servers", kafka.bootstrap, "--bundle", transactions_bundle)
    said = sentinel("replay", *where, "--input", prefix, "--output", prefix, ok=False).stderr
    assert "which is read; expected another topic" in said
