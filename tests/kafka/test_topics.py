"""Topics on a real broker."""

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from kafka_ingest.connection import Connection, KafkaFailed
from kafka_ingest.topics import (
    NewTopics,
    TopicNames,
    TopicPlan,
    ensure_topics,
    partitions_of,
    plans,
)
from tests.kafka.brokers import Brokers


def names_of(prefix: str) -> TopicNames:
    return TopicNames(
        input=f"{prefix}.in",
        output=f"{prefix}.out",
        alerts=f"{prefix}.alerts",
        dead_letters=f"{prefix}.dead",
        labels=f"{prefix}.labels",
    )


def config_of(kafka: Brokers, topic: str) -> dict[str, str]:
    admin = AdminClient(kafka.client)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(30)
    return {name: entry.value for name, entry in found.items()}


def test_missing_topics_are_made_as_planned(kafka: Brokers, prefix: str) -> None:
    names = names_of(prefix)
    wanted = plans(names, NewTopics(partitions=3, labels_days=2))
    made = ensure_topics(Connection(kafka.client), wanted)
    assert set(made) == set(names.model_dump().values())
    connection = Connection(kafka.client)
    assert partitions_of(connection, names.input) == [0, 1, 2]
    assert partitions_of(connection, names.output) == [0, 1, 2]
    assert partitions_of(connection, names.dead_letters) == [0]
    labels = config_of(kafka, names.labels)
    assert labels["cleanup.policy"] == "compact,delete"
    assert labels["retention.ms"] == str(2 * 86_400_000)
    dead, ordinary = config_of(kafka, names.dead_letters), config_of(kafka, names.input)
    assert int(dead["max.message.bytes"]) > int(ordinary["max.message.bytes"])
    assert ordinary["cleanup.policy"] == "delete"


def test_a_topic_that_is_there_is_taken_as_it_is(kafka: Brokers, prefix: str) -> None:
    kafka.create(f"{prefix}.in", 5, {"retention.ms": "1234567"})
    made = ensure_topics(Connection(kafka.client), plans(names_of(prefix), NewTopics(partitions=2)))
    assert f"{prefix}.in" not in made
    assert len(made) == 4
    assert len(kafka.partitions(f"{prefix}.in")) == 5
    assert config_of(kafka, f"{prefix}.in")["retention.ms"] == "1234567"
    assert ensure_topics(Connection(kafka.client), plans(names_of(prefix), NewTopics())) == []


def test_a_topic_that_the_brokers_refuse_is_named_with_their_reason(
    kafka: Brokers, prefix: str
) -> None:
    plan = TopicPlan(prefix, 1, {"retention.ms": "soon"})
    with pytest.raises(KafkaFailed, match=rf"topic '{prefix}' .* 1 partitions: .*retention\.ms"):
        ensure_topics(Connection(kafka.client), [plan])


def test_a_topic_that_is_not_there_is_named(kafka: Brokers) -> None:
    with pytest.raises(KafkaFailed, match=r"there is no topic 'no\.such'"):
        partitions_of(Connection(kafka.client), "no.such")
