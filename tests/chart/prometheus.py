"""A Prometheus of its own that scrapes one place, and its answers."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.serve.serving import free_port

SCRAPE_SECONDS = 2
START_SECONDS = 60.0


@dataclass(frozen=True)
class Prometheus:
    """One that runs, and is asked."""

    client: httpx.Client

    def ask(self, query: str) -> list[Mapping[str, Any]]:
        """The series that a query finds now, those that are no number left out."""
        answer = self.client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        found: list[Mapping[str, Any]] = answer["data"]["result"]
        return [series for series in found if series["value"][1] not in ("NaN", "+Inf", "-Inf")]

    def unanswered(self, queries: list[str], seconds: float) -> list[str]:
        """Those that find nothing within this time."""
        deadline = time.monotonic() + seconds
        left = queries
        while left and time.monotonic() < deadline:
            left = [query for query in left if not self.ask(query)]
            time.sleep(0.5)
        return left

    def rules(self) -> list[Mapping[str, Any]]:
        """The rules as it has evaluated them."""
        groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, port: int, rules: Path) -> Iterator[Prometheus]:
    """Debian's Prometheus, which scrapes this port of loopback and evaluates these rules."""
    config = {
        "global": {
            "scrape_interval": f"{SCRAPE_SECONDS}s",
            "evaluation_interval": f"{SCRAPE_SECONDS}s",
        },
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    own = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{own}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{own}", trust_env=False) as client:
            _wait(client, process, folder / "prometheus.log")
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"Prometheus is not ready: {log.read_text()}")
