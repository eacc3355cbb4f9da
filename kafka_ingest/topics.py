"""The topics: their names, and how those that are missing are made.

Topics that exist are taken as they are, whoever made them.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic
from pydantic import BaseModel, ConfigDict, Field

from kafka_ingest.connection import Connection, KafkaFailed

DAY_MS = 86_400_000
_NAME = r"^[A-Za-z0-9._-]{1,249}$"


class TopicNames(BaseModel):
    """Which topic is for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(default="transactions", pattern=_NAME, description="what is to be scored")
    output: str = Field(
        default="decisions", pattern=_NAME, description="an answer for each good record"
    )
    alerts: str = Field(
        default="alerts", pattern=_NAME, description="the answers that are review or block, again"
    )
    dead_letters: str = Field(
        default="transactions.dead",
        pattern=_NAME,
        description="records that could not be scored, unchanged, with the reason in headers",
    )
    labels: str = Field(
        default="labels", pattern=_NAME, description="what transactions turned out to be"
    )


class NewTopics(BaseModel):
    """What a topic that is missing is made with; those that exist are taken as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(
        default=6,
        ge=1,
        description="of the transactions, and of the decisions and alerts on them; no more workers "
        "than partitions share the work. 6 can be shared by 1, 2, 3 or 6 evenly; each costs a "
        "write in every transaction, and more can be added but never fewer",
    )
    transactions_days: float = Field(
        default=7, gt=0, description="how long transactions stay: to replay a week after an error"
    )
    results_days: float = Field(
        default=30,
        gt=0,
        description="how long decisions, alerts and dead letters stay. They are deleted by age and "
        "not compacted: their key is the customer's, and compaction would leave one a customer",
    )
    labels_days: float = Field(
        default=90,
        gt=0,
        description="how long labels stay, of which the newest of each transaction is enough "
        "(compacted): chargebacks take a month or two",
    )


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it would be made; replicas are as many as the brokers say by default."""

    name: str
    partitions: int
    config: Mapping[str, str]


def input_plan(name: str, new: NewTopics) -> TopicPlan:
    """The topic that transactions come on."""
    return TopicPlan(name, new.partitions, _kept(new.transactions_days))


def output_plan(name: str, new: NewTopics) -> TopicPlan:
    """The topic that decisions go to."""
    return TopicPlan(name, new.partitions, _kept(new.results_days))


def plans(names: TopicNames, new: NewTopics) -> list[TopicPlan]:
    """All topics that the stream needs."""
    results = _kept(new.results_days)
    # A dead letter is a record with headers: it is larger than one that just fits its own topic.
    dead = {**results, "max.message.bytes": str(2 << 20)}
    labels = {**_kept(new.labels_days), "cleanup.policy": "compact,delete"}
    return [
        input_plan(names.input, new),
        output_plan(names.output, new),
        TopicPlan(names.alerts, new.partitions, results),
        TopicPlan(names.dead_letters, 1, dead),
        TopicPlan(names.labels, 1, labels),
    ]


def _kept(days: float) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(int(days * DAY_MS))}


def ensure_topics(
    connection: Connection, wanted: Sequence[TopicPlan], timeout: float = 30.0
) -> list[str]:
    """Makes those of these topics that are missing; the names of the new ones.

    :raises KafkaFailed: the cluster does not answer, or refuses one.
    """
    there = connection.reach(timeout).topics
    missing = {plan.name: plan for plan in wanted if plan.name not in there}
    if not missing:
        return []
    admin = connection.admin()
    asked = [
        NewTopic(plan.name, plan.partitions, -1, config=dict(plan.config))
        for plan in missing.values()
    ]
    answers = admin.create_topics(asked, operation_timeout=timeout, request_timeout=timeout)
    return [name for name, answer in answers.items() if _made(missing[name], answer)]


def _made(plan: TopicPlan, answer: "Future[None]") -> bool:
    """Whether we made it; another may have been quicker."""
    try:
        answer.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        problem = f"topic {plan.name!r} is not there and cannot be created"
        why = error.args[0].str()
        raise KafkaFailed(f"{problem} with {plan.partitions} partitions: {why}") from error
    return True


def partitions_of(connection: Connection, topic: str, timeout: float = 10.0) -> list[int]:
    """The numbers of a topic's partitions, ascending.

    :raises KafkaFailed: there is no such topic, or no answer.
    """
    found = connection.reach(timeout).topics.get(topic)
    if found is None or not found.partitions:
        raise KafkaFailed(f"{connection.servers}: there is no topic {topic!r}")
    return sorted(found.partitions)
