"""What replicas are sized to, and how soon they come and go (``sentinel.scaling``)."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ScalingSettings(BaseModel):
    """What replicas are sized to. One set for all stages of a queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective_ms: float = Field(
        default=50,
        gt=0,
        description="milliseconds within which a row should be through: the p95 that load tests "
        "hold the service to",
    )
    mean_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of the objective that rows may stay on average: the objective is for 95 "
        "of 100, and the slowest of those stays some twice as long as the mean",
    )
    batch_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="share of the objective that one batch may take in one stage: a row waits for "
        "the batch before it and flies in its own, and each is first in the router, then in a lane",
    )
    grow_busy: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="share of its time that a replica may work; above it there are more. A queue "
        "before a server that is busy for 0.7 of its time holds two rows, at 0.9 nine",
    )
    shrink_busy: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of its time that each would have to work, at most, for one to go. The "
        "distance to grow_busy is what measurements may err by before replicas come and go",
    )
    grow_seconds: float = Field(
        default=1,
        ge=0,
        description="so long more must be needed before there are more. A burst that is over "
        "sooner ends before a new replica, which takes seconds to start, could help",
    )
    shrink_seconds: float = Field(
        default=60,
        ge=0,
        description="so long fewer must suffice before there are fewer: longer than the pauses "
        "between waves of payments, and some ten times what starting one again takes",
    )
    cooldown_seconds: float = Field(
        default=30,
        ge=0,
        description="after a change of a stage it does not shrink for so long: what a new replica "
        "changes is measured only once it works",
    )
    shrink_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="at most this share of a stage's replicas goes at a time, at least one: were "
        "the measurement wrong, half of them are still there",
    )
    settle_seconds: float = Field(
        default=5,
        ge=0,
        description="after a change of a stage, and while replicas of it start, rows that wait ask "
        "for no more for so long: they are why those were called, and the mean of the last seconds "
        "still knows them when they are gone. Without it, a simulated spike called twice as many",
    )
    lead_seconds: float = Field(
        default=5,
        ge=0,
        description="so far ahead a growing rate of arrivals is followed: what a new replica takes "
        "until it works",
    )
    lead_limit: float = Field(
        default=1.5,
        ge=1,
        description="the rate looked ahead is at most so many times the rate now: the first second "
        "of a spike says nothing about where it ends",
    )
    trend_seconds: float = Field(
        default=10,
        gt=0,
        description="the trend of arrivals is taken from so many seconds: half of them are held "
        "against the other half, so that noise weighs little",
    )
    stale_seconds: float = Field(
        default=5,
        gt=0,
        description="a report is good for so long: some ten times the interval of reports",
    )

    @model_validator(mode="after")
    def _measures_leave_room_between(self) -> "ScalingSettings":
        if self.shrink_busy > self.grow_busy:
            raise ValueError(
                f"shrink_busy is {self.shrink_busy:g}, expected at most grow_busy "
                f"({self.grow_busy:g}): replicas would go and come back at once"
            )
        return self

    @property
    def objective(self) -> float:
        """Seconds."""
        return self.objective_ms / 1000

    @property
    def mean_stay(self) -> float:
        """Seconds that rows may stay on average."""
        return self.mean_share * self.objective
