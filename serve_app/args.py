"""The arguments of the application: what a rollout changes. Light to import; it knows no Ray."""

import os

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_BUNDLE = "bundles/transactions"


class AppArgs(BaseModel):
    """What ``args`` of the Serve config may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = Field(
        default=DEFAULT_BUNDLE,
        min_length=1,
        description="plain path or URI of the bundle to serve; a relative path counts from the "
        "folder that Ray was started in",
    )

    @property
    def bundle_uri(self) -> str:
        """``bundle`` so that it means the same in any other working directory."""
        if "://" in self.bundle:
            return self.bundle
        return os.path.abspath(os.path.expanduser(self.bundle))
