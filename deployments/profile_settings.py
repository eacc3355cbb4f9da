"""Where the application keeps its profiles: part of its arguments. Light to import."""

from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sentinel.errors import UsageError
from sentinel.store_limits import StoreLimits

PROFILES = "Profiles"
"""The name of the deployment, in the Serve config, the dashboard and metrics."""

REDIS_SCHEMES = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://")

MINUTES_10, HOURS_24 = 600.0, 86_400.0


class ProfileSettings(BaseModel):
    """``args.profiles``: the store of profiles and identities, and its bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str | None = Field(
        default=None,
        min_length=1,
        description="redis://, rediss:// or redis+cluster:// keeps profiles there; a path or other "
        "URI is a snapshot written when the service stops and read when it starts; null: every "
        "start is from the bundle's",
    )
    password_file: str | None = Field(
        default=None,
        min_length=1,
        description="file with the password of the Redis at `uri`, so that no config holds it; "
        "read at the start",
    )
    history: str | None = Field(
        default=None,
        min_length=1,
        description="labelled Parquet or CSV file that profiles start from, not the bundle's",
    )
    idempotency_window_s: float | None = Field(
        default=None,
        gt=0,
        description="the same transaction gets its first answer so long; null is 10 minutes in "
        "memory and 24 hours on Redis",
    )
    identities: int = Field(
        default=500_000,
        ge=1,
        description="most identities in memory, some 0.5 KB each; past it the oldest go early",
    )
    labels: int = Field(
        default=500_000,
        ge=1,
        description="most transactions in memory that a label still finds, some 0.5 KB each",
    )
    label_days: float = Field(
        default=60,
        gt=0,
        description="on Redis a label finds its transaction so long, 170 bytes each: chargebacks "
        "take a month or two",
    )
    ttl_days: float = Field(
        default=180,
        gt=0,
        description="an entity that is not written so long is forgotten. Longer than the longest "
        "window of any description is of no use",
    )
    deadline_ms: float = Field(
        default=250,
        gt=0,
        description="a batch waits so long for its profiles; then it is judged as of customers "
        "never seen before, and flagged as degraded",
    )
    max_future_skew_s: float = Field(
        default=300,
        ge=0,
        description="a timestamp further ahead of this machine's clock is refused (422)",
    )

    @model_validator(mode="after")
    def _a_password_is_for_redis(self) -> Self:
        if self.password_file is None:
            return self
        if not self.on_redis or urlsplit(self.uri or "").password is not None:
            raise ValueError("password_file needs a uri of Redis, and one without a password")
        return self

    def redis_uri(self) -> str:
        """``uri`` with the password of ``password_file`` in it, where there is one.

        :raises UsageError: the file cannot be read, or is empty.
        """
        assert self.uri is not None
        if self.password_file is None:
            return self.uri
        try:
            password = Path(self.password_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UsageError(f"password_file {self.password_file}: {error}") from error
        if not password:
            raise UsageError(f"password_file {self.password_file} is empty; expected a password")
        scheme, _, rest = self.uri.partition("://")
        place, question, options = rest.partition("?")
        user, _, host = place.rpartition("@")
        return f"{scheme}://{user}:{quote(password, safe='')}@{host}{question}{options}"

    @property
    def on_redis(self) -> bool:
        """Whether profiles are kept on Redis."""
        return self.uri is not None and self.uri.startswith(REDIS_SCHEMES)

    @property
    def snapshot(self) -> str | None:
        """Where profiles are saved when the service stops, if they are in memory and saved."""
        return None if self.on_redis else self.uri

    @property
    def window(self) -> float:
        """The idempotency window in seconds."""
        if self.idempotency_window_s is not None:
            return self.idempotency_window_s
        return HOURS_24 if self.on_redis else MINUTES_10

    def limits(self) -> StoreLimits:
        """The bounds of a store in memory."""
        return StoreLimits(self.window, self.identities, self.labels, self.ttl_days * 86_400)
