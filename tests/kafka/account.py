"""The account that every test of the stream closes with: what went in, and what came out."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from kafka_ingest.topics import TopicNames
from tests.kafka.brokers import Brokers, Record


@dataclass(frozen=True)
class Account:
    """Everything in the topics of one stream, as a ``read_committed`` consumer sees it."""

    records: list[Record]
    decisions: list[Record]
    alerts: list[Record]
    dead: list[Record]

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(one.value or b"") for one in self.decisions]

    def answer(self, name: str) -> dict[str, Any]:
        (found,) = (each for each in self.answers if each["transaction_id"] == name)
        return found

    def lost_and_doubled(self) -> tuple[int, int]:
        """Records without decision or dead letter, and decisions that are too many."""
        dead = {(int(one.headers["partition"]), int(one.headers["offset"])) for one in self.dead}
        good = [one for one in self.records if (one.partition, one.offset) not in dead]
        wanted = Counter(_name(one) for one in good)
        decided = Counter(each["transaction_id"] for each in self.answers)
        return (wanted - decided).total(), (decided - wanted).total() + len(self.dead) - len(dead)

    def check(self) -> None:
        """Each record has exactly one decision or one dead letter, and each review and block is
        repeated once; no decision is on anything else."""
        assert self.lost_and_doubled() == (0, 0)
        flagged = [
            one.value for one in self.decisions if b'"decision":"approve"' not in (one.value or b"")
        ]
        assert Counter(flagged) == Counter(one.value for one in self.alerts)


def account(brokers: Brokers, names: TopicNames) -> Account:
    """Reads all of it; what is open has ended by then."""
    return Account(
        brokers.read(names.input),
        brokers.read(names.output),
        brokers.read(names.alerts),
        brokers.read(names.dead_letters),
    )


def _name(record: Record) -> str:
    return msgspec.json.decode(record.value or b"")["transaction_id"]
