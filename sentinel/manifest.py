"""The manifest of a bundle: the contract between who trained a model and who serves it."""

import hashlib
import json
import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sentinel.calibration import SigmoidCalibration
from sentinel.dataset import DatasetDescription, Policy
from sentinel.errors import BundleError
from sentinel.features import feature_set
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

SCHEMA_VERSION = 1
"""Raised when a reader of the old schema could misunderstand the new one."""

_SAFE_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """A file of the bundle: what it must weigh and hash to."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")

    @classmethod
    def of(cls, data: bytes) -> "FileEntry":
        """The entry that a file of these bytes must have."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


class ModelEntry(_Strict):
    """One lane's model."""

    file: str
    format: Literal["xgboost-ubj"] = "xgboost-ubj"
    trees: int = Field(ge=1)
    parameters: dict[str, Any] = Field(description="what it was trained with")


class NoveltyEntry(_Strict):
    """The window that anomaly scores are held against (ascending little-endian float32)."""

    file: str
    rows: int = Field(ge=1)


class ProfilesEntry(_Strict):
    """The profiles at the end of the data (see ``profile_snapshot``)."""

    file: str
    newest: str = Field(description="time of the newest event in them")
    entities: dict[str, int] = Field(description="how many of each entity key")


class DataEntry(_Strict):
    """The rows a bundle was trained on."""

    sha256: str = Field(description="of the table's columns as they were used")
    rows: int
    frauds: int
    first: str | None = Field(description="time of the first row, or None without a time column")
    last: str | None


class Manifest(_Strict):
    """Everything about a bundle but the bytes of its files."""

    format: Literal["sentinelstream-bundle"] = "sentinelstream-bundle"
    schema_version: int = SCHEMA_VERSION
    description: DatasetDescription
    policy: Policy
    features: tuple[str, ...]
    models: dict[str, ModelEntry]
    calibration: SigmoidCalibration
    novelty: NoveltyEntry
    profiles: ProfilesEntry | None = None
    data: DataEntry
    seed: int
    steps: tuple[dict[str, Any], ...] = Field(description="what training did, in order")
    quality: dict[str, Any] = Field(description="measured on rows later than all it was fit on")
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if set(self.models) != {FRAUD_LANE, NOVELTY_LANE}:
            raise ValueError(f"models are {sorted(self.models)}, not the two lanes")
        for path in self.files:
            if not _SAFE_PATH.fullmatch(path) or path == "manifest.json":
                raise ValueError(f"file path {path!r} is not a plain path inside the bundle")
        used = [entry.file for entry in self.models.values()] + [self.novelty.file]
        for path in used + ([self.profiles.file] if self.profiles else []):
            if path not in self.files:
                raise ValueError(f"file {path!r} is used but not listed under files")
        known = feature_set(self.description).names
        for name in self.features:
            if name not in known:
                raise ValueError(f"feature {name!r} is unknown; the description makes {known}")
        if self.features != known:
            raise ValueError(f"features are {self.features}, the description makes {known}")
        return self

    def to_bytes(self) -> bytes:
        """JSON in a fixed order: the same manifest gives the same bytes, and so the same digest.

        The order is the models' own, not the alphabet's: that of the fields in the description is
        the order of the number columns.
        """
        content = self.model_dump(mode="json", exclude={"description": {"policy"}})
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def digest_of(manifest: bytes) -> str:
    """The ``model_version`` of the bundle with this manifest: SHA-256 in hex.

    The manifest names every file by its hash, so this covers all of the bundle.
    """
    return hashlib.sha256(manifest).hexdigest()


def parse_manifest(data: bytes, origin: str) -> Manifest:
    """:raises BundleError: no manifest, of a newer schema, or not consistent in itself."""
    try:
        content = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{origin}: manifest.json is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != "sentinelstream-bundle":
        raise BundleError(f"{origin}: manifest.json is not that of a SentinelStream bundle")
    version = content.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = "; upgrade SentinelStream to read it" if newer else ""
        raise BundleError(
            f"{origin}: manifest.json has schema version {version!r}, "
            f"this release reads {SCHEMA_VERSION}{advice}"
        )
    description = content.get("description")
    if isinstance(description, dict) and "policy" in content:
        # Written once, at the top; a description without it would fall back to the defaults.
        if "policy" in description:
            raise BundleError(f"{origin}: manifest.json: description.policy: expected at the top")
        description = {**description, "policy": content["policy"]}
    try:
        return Manifest.model_validate({**content, "description": description})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        where = f"{place}: " if place else ""
        raise BundleError(f"{origin}: manifest.json: {where}{problem}") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
