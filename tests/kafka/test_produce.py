"""``sentinel produce`` into a real broker."""

import json
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sentinel.dataset import load_description
from sentinel.parse_json import JsonParser
from tests.kafka.brokers import Brokers
from tests.kafka.commands import Started, count, result_of, sentinel, wait_until

HANDBOOK = {
    "transaction_id": "TRANSACTION_ID",
    "timestamp": "TX_DATETIME",
    "customer_id": "CUSTOMER_ID",
    "terminal_id": "TERMINAL_ID",
    "amount": "TX_AMOUNT",
    "is_fraud": "TX_FRAUD",
}


@pytest.fixture(scope="session")
def handbook_file(transactions_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows under the handbook's names, times without a zone as there."""
    table = pq.read_table(transactions_file, columns=list(HANDBOOK))
    times = table.column("timestamp").cast(pa.timestamp("us"))
    table = table.set_column(1, "timestamp", times).rename_columns(list(HANDBOOK.values()))
    file = tmp_path_factory.mktemp("handbook") / "handbook.parquet"
    pq.write_table(table, file)
    return file


@pytest.mark.parametrize("naming", ["ours", "the handbook's"])
def test_each_row_arrives_once_in_its_customers_order(
    kafka: Brokers, prefix: str, transactions_file: Path, handbook_file: Path, naming: str
) -> None:
    file = transactions_file if naming == "ours" else handbook_file
    result = result_of(
        *("produce", "--bootstrap-servers", kafka.bootstrap, "--topic", prefix),
        *("--data", str(file)),
    )
    rows = pq.read_table(transactions_file)
    assert result["records"] == len(rows)
    assert result["refused"] == 0
    read = kafka.read(prefix)
    assert len({one.partition for one in read}) > 1
    parser = JsonParser(load_description("transactions"))
    parsed = [parser.one(one.value or b"") for one in read]
    customers = rows.column("customer_id").to_pylist()
    ids = rows.column("transaction_id").to_pylist()
    expected: dict[str, list[str]] = {}
    for customer, name in zip(customers, ids, strict=True):
        expected.setdefault(customer, []).append(name)
    found: dict[str, list[str]] = {}
    for one, transaction in zip(read, parsed, strict=True):
        assert one.key == transaction.entities["customer_id"][0].as_py().encode()
        found.setdefault((one.key or b"").decode(), []).append(transaction.ids[0].as_py())
    assert found == expected
    amounts = dict(zip(ids, rows.column("amount").to_pylist(), strict=True))
    times = dict(zip(ids, rows.column("timestamp").cast(pa.int64()).to_pylist(), strict=True))
    for transaction in parsed:
        name = transaction.ids[0].as_py()
        assert float(transaction.numbers[0, 0]) == amounts[name]
        assert transaction.times is not None
        assert int(transaction.times[0]) == times[name]


def test_rows_that_are_no_transactions_are_counted_and_not_sent(
    kafka: Brokers, prefix: str, transactions_file: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(transactions_file).slice(0, 10)
    amounts = pc.if_else(pa.array([at == 3 for at in range(10)]), -1.0, rows.column("amount"))
    file = tmp_path / "some.parquet"
    pq.write_table(rows.set_column(rows.column_names.index("amount"), "amount", amounts), file)
    where = ("--bootstrap-servers", kafka.bootstrap, "--topic", prefix)
    done = sentinel("produce", *where, "--data", str(file), "--json")
    assert json.loads(done.stdout)["refused"] == 1
    assert "row 3: amount is -1.0" in done.stderr
    assert len(kafka.read(prefix)) == 9


@pytest.mark.parametrize("pace", [("--rate", "100"), ("--speed", "60")])
def test_records_are_sent_at_the_pace_that_was_asked_for(
    kafka: Brokers, prefix: str, transactions_file: Path, tmp_path: Path, pace: tuple[str, str]
) -> None:
    rows = pq.read_table(transactions_file).slice(0, 201)
    second = pa.array([1_522_540_800 + at * 3 // 5 for at in range(201)]).cast(pa.timestamp("s"))
    at = rows.column_names.index("timestamp")
    times = second.cast(pa.timestamp("us", "UTC"))
    pq.write_table(rows.set_column(at, "timestamp", times), tmp_path / "two_minutes.parquet")
    sentinel(
        *("produce", "--bootstrap-servers", kafka.bootstrap, "--topic", prefix, *pace),
        *("--data", str(tmp_path / "two_minutes.parquet")),
    )
    sent = sorted(one.at_ms for one in kafka.read(prefix))
    assert len(sent) == 201
    assert sent[-1] - sent[0] >= 1_950, "201 records at 100 a second"
    assert sent[100] - sent[0] >= 950, "and not all of them at the end"


def test_stopped_it_says_how_many_arrived(
    kafka: Brokers, prefix: str, transactions_file: Path
) -> None:
    where = ("--bootstrap-servers", kafka.bootstrap, "--topic", prefix)
    with Started("produce", *where, "--data", str(transactions_file), "--rate", "500") as sending:
        wait_until(lambda: count(kafka, prefix) > 300, "records")
        sending.tell(signal.SIGTERM)
        code, said = sending.ended()
    assert code == 1
    assert f"stopped; {count(kafka, prefix):,} records were sent to '{prefix}'" in said


def test_made_up_transactions_are_sent_until_it_is_stopped(kafka: Brokers, prefix: str) -> None:
    where = ("--bootstrap-servers", kafka.bootstrap, "--topic", prefix)
    with Started("produce", *where, "--generated", "--dataset", "creditcard") as sending:
        wait_until(lambda: count(kafka, prefix) > 3_000, "records")
        sending.tell(signal.SIGINT)
        code, said = sending.ended()
    assert code == 0
    read = kafka.read(prefix)
    assert f"{len(read):,} records sent to '{prefix}'" in said
    parser = JsonParser(load_description("creditcard"))
    ids = {parser.one(one.value or b"").ids[0].as_py() for one in read}
    assert len(ids) == len(read)
    assert {(one.key or b"").decode() for one in read} == ids


def test_records_that_are_not_acknowledged_are_counted_as_a_failure(
    fragile: Brokers, prefix: str, tmp_path: Path
) -> None:
    fragile.create(prefix)
    config = tmp_path / "client.properties"
    config.write_text(fragile.properties_file.read_text() + "message.timeout.ms=4000\n")
    with Started(
        *("produce", "--config", str(config), "--topic", prefix, "--generated", "--rate", "1000")
    ) as sending:
        wait_until(lambda: count(fragile, prefix) > 500, "records")
        fragile.kill()
        code, said = sending.ended()
    assert code == 1
    assert f"records for topic '{prefix}' were not acknowledged" in said
