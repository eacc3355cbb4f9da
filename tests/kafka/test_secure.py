"""A broker that lets in only who knows the password, over TLS."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from kafka_ingest.connection import Connection, KafkaFailed
from kafka_ingest.topics import TopicPlan, ensure_topics
from tests.kafka.brokers import Brokers


def test_scram_over_tls_lets_us_in_with_the_password_from_a_file(
    secure: Brokers, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "password").write_text(secure.client["sasl.password"] + "\n")
    text = secure.properties_file.read_text()
    indirect = text.replace(secure.client["sasl.password"], f"${{file:{tmp_path}/password}}")
    (tmp_path / "client.properties").write_text(indirect)
    connection = Connection.of(None, tmp_path / "client.properties")
    assert ensure_topics(connection, [TopicPlan(prefix, 1, {})]) == [prefix]
    producer = connection.open(Producer)
    producer.produce(prefix, b"let in")
    assert producer.flush(30) == 0
    assert [one.value for one in secure.read(prefix)] == [b"let in"]


def test_a_wrong_password_is_said_at_once_and_not_shown(secure: Brokers) -> None:
    wrong = Connection({**secure.client, "sasl.password": "opensesame"})
    with pytest.raises(KafkaFailed, match=r"(?i)authentication") as refused:
        wrong.reach(timeout=30)
    assert secure.bootstrap in str(refused.value)
    assert "opensesame" not in str(refused.value)


def test_a_broker_whose_certificate_is_unknown_is_not_trusted(secure: Brokers) -> None:
    settings = {name: value for name, value in secure.client.items() if name != "ssl.ca.location"}
    with pytest.raises(KafkaFailed, match=r"(?i)ssl|certificate"):
        Connection(settings).reach(timeout=30)
