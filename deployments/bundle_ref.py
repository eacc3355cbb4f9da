"""Which bundle to serve, as the Serve config says it. Light to import."""

from pydantic import BaseModel, ConfigDict, Field


class BundleRef(BaseModel):
    """The ``user_config`` of every deployment: which bundle to serve."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = Field(
        min_length=1,
        description="plain path or URI; a relative path counts from the folder Ray was started in",
    )
    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="the model version it must be; null takes whatever is there",
    )
