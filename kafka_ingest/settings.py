"""How a worker and its pool behave. What is said here holds for each worker."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Protocol = Literal["consumer", "classic"]


class WorkerSettings(BaseModel):
    """The bounds of one worker, and how it takes part in its group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str = Field(
        default="sentinel",
        min_length=1,
        description="consumer group; its workers share the partitions, and the transactional id of "
        "each is the group's name with the worker's number",
    )
    protocol: Protocol = Field(
        default="consumer",
        description="how the group shares partitions: consumer (Kafka 4: the broker moves them one "
        "by one, in a second) or classic (any Kafka; cooperative)",
    )
    batch_records: int = Field(
        default=8_192,
        ge=1,
        description="most records read and scored together; larger batches are no faster",
    )
    poll_ms: float = Field(
        default=20,
        gt=0,
        description="a batch that is not full goes on after this time; part of the time to a "
        "decision where there is little to do",
    )
    commit_records: int = Field(
        default=50_000,
        ge=1,
        description="records at which a transaction is committed: what is done again after a crash",
    )
    commit_ms: float = Field(
        default=500,
        gt=0,
        description="longest time that a transaction takes in more. It is less where commits are "
        "quick: a transaction stays open as long as a commit takes, which then costs no speed",
    )
    whole_s: float = Field(
        default=30,
        ge=0,
        description="while a model or the profiles are missing a batch is tried again for so long; "
        "then its decisions go out flagged as degraded. 0 takes them at once",
    )
    drain_s: float = Field(
        default=20,
        gt=0,
        description="longest wait, when partitions are taken away or the worker is stopped, for "
        "what is under way; then it is aborted, and whoever has the partition next does it",
    )
    transaction_timeout_s: float = Field(
        default=60,
        ge=1,
        description="the broker aborts the transaction of a worker that is silent so long; until "
        "then readers of what was committed see nothing behind it",
    )
    prefetch_mb: float = Field(
        default=32,
        gt=0,
        description="memory for records fetched ahead, in each worker",
    )
