"""The brokers that the other tests of this folder rest on."""

from confluent_kafka import Producer

from tests.kafka.brokers import Brokers


def test_what_was_acknowledged_outlives_a_kill(fragile: Brokers, prefix: str) -> None:
    topic = fragile.create(f"{prefix}.in", partitions=2)
    fragile.send(topic, [b"%d" % at for at in range(100)], [b"%d" % (at % 7) for at in range(100)])
    fragile.kill()
    fragile.start()
    read = fragile.read(topic)
    assert sorted(int(one.value or b"") for one in read) == list(range(100))
    assert {one.partition for one in read} == {0, 1}


def test_an_aborted_transaction_is_not_read(kafka: Brokers, prefix: str) -> None:
    topic = kafka.create(f"{prefix}.out")
    producer = Producer({**kafka.client, "transactional.id": prefix})
    producer.init_transactions(30)
    for value, keep in ((b"lost", False), (b"kept", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        assert producer.flush(30) == 0
        assert b"kept" not in [one.value for one in kafka.peek(topic)]
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)
    assert [one.value for one in kafka.read(topic)] == [b"kept"]
