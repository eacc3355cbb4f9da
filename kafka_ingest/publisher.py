"""The writing half of a worker: decisions, alerts, dead letters and offsets in one transaction.

All of it blocks, and belongs to one thread. An error that a transaction can be repeated after is
``Aborted``; one that ends the worker is ``WorkerFailed``, or ``Fenced`` where another has taken its
place; whatever may pass by itself is tried again here.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from kafka_ingest.connection import Connection
from kafka_ingest.errors import Aborted, Fenced, WorkerFailed
from kafka_ingest.outgoing import DeadLetter, Outcome, Place
from kafka_ingest.settings import WorkerSettings
from kafka_ingest.topics import TopicNames

logger = logging.getLogger("sentinel.kafka")

CALL_SECONDS = 5.0
"""Longest time of one call before it is made again: between two of them a stop is noticed."""

WAITING_RECORDS = 200_000
"""Most records that wait in the client for the broker: several transactions' worth."""

LARGEST = 64 * 2**20
"""Bytes of a record that the client would send; the broker has the say."""

SPARE = 100_000
"""Bytes of a dead letter whose record the topic of dead letters does not take whole."""

_FENCED = frozenset(
    (
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    )
)


class Publisher:
    """A transactional producer."""

    def __init__(
        self,
        connection: Connection,
        topics: TopicNames,
        transactional_id: str,
        settings: WorkerSettings,
    ) -> None:
        self._topics = topics
        self._id = transactional_id
        self._leaving = False
        self._fatal: KafkaError | None = None
        self._too_large: set[Place] = set()
        timeout = int(1000 * settings.transaction_timeout_s)
        self._producer: Producer = connection.open(
            Producer,
            {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout,
                "message.timeout.ms": timeout,
                "queue.buffering.max.messages": WAITING_RECORDS,
                "message.max.bytes": LARGEST,
                "error_cb": self._noted,
                "linger.ms": 5,
                "compression.type": "lz4",
            },
        )

    def _noted(self, error: KafkaError) -> None:
        if error.code() in _FENCED:
            self._fatal = error

    def start(self) -> None:
        """Ends what a worker before left open under this id, and shuts that one out.

        :raises WorkerFailed: the brokers refuse it.
        """
        self._persist(lambda: self._producer.init_transactions(CALL_SECONDS))

    def begin(self) -> None:
        """A new transaction."""
        self._persist(self._producer.begin_transaction)

    def publish(self, outcome: Outcome) -> None:
        """Hands a batch over to the client, which sends it by itself.

        :raises Aborted: something of this transaction was refused.
        """
        self._write(self._topics.output, outcome.values, outcome.keys)
        alerts = outcome.alerts
        self._write(
            self._topics.alerts,
            [outcome.values[at] for at in alerts],
            [outcome.keys[at] for at in alerts],
        )
        for letter in outcome.dead:
            self._bury(letter)

    def commit(self, offsets: Sequence[TopicPartition], member: Any) -> None:
        """Commits what was published, and with it that these records are done; ``member``: see
        ``Intake``.

        :raises Aborted: it cannot be: to be aborted.
        """
        # 1. everything is with the brokers (what is late shows in the commit);
        # 2. the group's offsets join the transaction, which the brokers refuse to who is no longer
        #    in the group;
        # 3. the transaction is committed: from here on all of it is seen, or none.
        if offsets:
            self._persist(
                lambda: self._producer.send_offsets_to_transaction(
                    list(offsets), member, CALL_SECONDS
                )
            )
        self._persist(lambda: self._producer.commit_transaction(CALL_SECONDS))

    def abort(self) -> None:
        """Nothing of this transaction happened."""
        self._persist(lambda: self._producer.abort_transaction(CALL_SECONDS))

    def leave(self) -> None:
        """Nothing is tried again from now on. What is open is ended by who comes next, or by the
        brokers."""
        self._leaving = True

    def _write(self, topic: str, values: Iterable[bytes], keys: Iterable[bytes]) -> None:
        produce = self._producer.produce
        for value, key in zip(values, keys, strict=True):
            self._offer(produce, topic, value, key)
        self._serve()

    def _bury(self, letter: DeadLetter) -> None:
        headers: list[tuple[str, str | bytes | None]] = [*letter.headers()]
        value = letter.value
        if letter.place in self._too_large and value is not None:
            digest = hashlib.sha256(value).hexdigest()
            headers += [("size", str(len(value))), ("sha256", digest)]
            value = value[:SPARE]

        def reported(error: KafkaError | None, _: Message) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._too_large.add(letter.place)  # and cut when the transaction is repeated

        def produce() -> None:
            self._producer.produce(
                self._topics.dead_letters,
                value,
                letter.key,
                headers=headers,
                on_delivery=reported,
            )

        self._offer(produce)

    def _wait_for_room(self) -> None:
        """:raises Aborted: the brokers take nothing, for longer than a transaction may last."""
        start = time.monotonic()
        while len(self._producer) >= WAITING_RECORDS // 2:
            self._serve(0.05)
            if time.monotonic() - start > 60:
                raise Aborted("the brokers take nothing")

    def _serve(self, seconds: float = 0) -> None:
        """Hands over reports; raises what ends the worker."""
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            raise self._judged(error) from error

    def _offer(self, produce: Callable[..., object], *arguments: Any) -> None:
        """Hands a record over, once more where there was no room at first."""
        try:
            try:
                produce(*arguments)
            except BufferError:
                self._wait_for_room()
                produce(*arguments)
        except BufferError as error:
            raise Aborted("no room in the client") from error
        except KafkaException as error:
            # A record before this one was refused meanwhile: the client, in its own thread, has put
            # the transaction into the state from which it can only be aborted, and takes no more.
            # It says no more than that; if worse is the matter, aborting says so.
            if error.args[0].code() == KafkaError._STATE:
                raise Aborted("a record before was refused") from error
            raise self._judged(error) from error

    def _persist(self, call: Callable[[], object]) -> None:
        """Makes a call of the transaction's protocol, again while that may help."""
        while True:
            try:
                call()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or self._leaving:
                    raise self._judged(error) from error
                logger.warning("%s: %s; tried again", self._id, error.args[0].str())

    def _judged(self, error: KafkaException) -> Exception:
        """What an error means."""
        found: KafkaError = error.args[0]
        try:
            self._producer.poll(0)  # reports of dead letters that are too large
        except KafkaException as why:
            found = why.args[0]
        if found.fatal() and found.code() != KafkaError._FATAL:
            self._fatal = found
        elif found.code() == KafkaError._FATAL:  # as every call says from then on
            found = self._fatal or found
        if found.code() in _FENCED and not found.txn_requires_abort():
            return Fenced(f"{self._id}: another worker has this id: {found.str()}")
        if found.txn_requires_abort():
            return Aborted(found.str())
        return WorkerFailed(f"{self._id}: {found.str()}")
