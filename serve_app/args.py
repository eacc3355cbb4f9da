"""The arguments of the application: what a rollout changes. Light to import; it knows no Ray."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.profile_settings import ProfileSettings
from sentinel.coalescing import QueueLimits

MIB = 2**20

Placement = Literal["separate", "together"]
"""Where the models stand, seen from a router."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouterSettings(_Strict):
    """What a router lets wait, and for how long. Each router has these bounds for itself."""

    lane_deadline_ms: float = Field(
        default=500,
        gt=0,
        description="a batch waits so long for its models, retries included; then it is decided "
        "without the one that is late. Far above what scoring takes (milliseconds), so that a busy "
        "moment of the machine costs no answer, and below what a payment waits",
    )
    feature_reasons: bool = Field(
        default=True,
        description="name the features that raised a review or block in its reasons: a "
        "quarter of a millisecond of the router for each. A batch has until `lane_deadline_ms` for "
        "its models and these together; a row that no time is left for keeps the reasons without "
        "features",
    )
    queue_age_ms: float = Field(
        default=250,
        gt=0,
        description="a request is refused (503) when the oldest one has waited longer",
    )
    waiting_requests: int = Field(
        default=2_048, ge=1, description="requests in the queue at which more are refused (503)"
    )
    waiting_rows: int = Field(
        default=16_384, ge=1, description="rows in the queue at which more are refused (503)"
    )
    flight_rows: int = Field(
        default=4_096,
        ge=1,
        description="most rows scored together. Some 25 ms of the slower model: past a few "
        "thousand rows larger batches are no faster",
    )
    flight_requests: int = Field(
        default=512,
        ge=1,
        description="most requests scored together: reading and answering each takes the router's "
        "event loop some 20 microseconds",
    )
    flights: int = Field(
        default=2,
        ge=1,
        description="batches under way at once: one is prepared while the other is scored",
    )
    body_bytes: int = Field(
        default=256 * MIB,
        ge=1,
        description="bytes of all request bodies held at once, at which more are refused (503). "
        "With what is parsed from them they take up to ten times as much memory",
    )
    body_seconds: float = Field(
        default=10, gt=0, description="longest wait for the next part of a body (408)"
    )

    def queue_limits(self) -> QueueLimits:
        """The part of these that bounds the queue."""
        return QueueLimits(
            flight_rows=self.flight_rows,
            flight_items=self.flight_requests,
            flights=self.flights,
            waiting_rows=self.waiting_rows,
            waiting_items=self.waiting_requests,
            age=self.queue_age_ms / 1000,
        )


class AppArgs(_Strict):
    """What ``args`` of the Serve config may hold. The bundle is not among them: it is the
    ``user_config`` of each deployment, so that another one is a reload and not a restart."""

    api_keys: str | None = Field(
        default=None,
        min_length=1,
        description="file of hashed API keys, read again when it changes; null asks nobody",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="serve without API keys even where other machines can reach it",
    )
    feature_log: str | None = Field(
        default=None,
        min_length=1,
        description="folder that routers write the features of every transaction to, to hold them "
        "against offline ones; a few hundred bytes each",
    )
    placement: Placement = Field(
        default="separate",
        description="separate: each model in a deployment of its own, which grows, fails and is "
        "replaced by itself; together: both in every router's process, which saves the calls to "
        "them. docs/serving.md says when each wins",
    )
    router: RouterSettings = RouterSettings()
    profiles: ProfileSettings = ProfileSettings()
