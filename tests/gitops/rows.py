"""The rows of health_rows.yaml as objects."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

API_VERSIONS = {
    "RayService": "ray.io/v1",
    "RayCluster": "ray.io/v1",
    "Application": "argoproj.io/v1alpha1",
}


class Row(msgspec.Struct, frozen=True):
    """``says`` is part of the message; without ``generation`` the object was never changed."""

    kind: str
    row: str
    expected: str
    says: str
    status: dict[str, Any] | None
    spec: dict[str, Any] = {}
    generation: int = 1

    def __str__(self) -> str:
        return f"{self.kind}: {self.row}"

    def object(self) -> dict[str, Any]:
        """The object, as the API server would give it."""
        made = {
            "apiVersion": API_VERSIONS[self.kind],
            "kind": self.kind,
            "metadata": {"name": "it", "namespace": "sentinel", "generation": self.generation},
            "spec": self.spec,
        }
        return made if self.status is None else made | {"status": self.status}


def rows(kind: str | None = None) -> list[Row]:
    """Those of a kind, or all."""
    content = yaml.safe_load(Path(__file__).with_name("health_rows.yaml").read_text())
    return [
        msgspec.convert({"kind": name, **row}, Row)
        for name, listed in content.items()
        for row in listed
        if kind in (None, name)
    ]
