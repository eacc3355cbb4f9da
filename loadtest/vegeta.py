"""vegeta, the load generator of the open-loop measurements: so many requests a second, come what
may, where wrk waits for an answer before it asks again.

It is built from the Go module proxy at a pinned version and kept between runs. Every answer is
recorded, so that accepted and refused ones can be told apart.
"""

import base64
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from loadtest.environments import NotMeasurable

MODULE = "github.com/tsenart/vegeta/v12@v12.13.0"
PLACE = Path("build") / "tools"
BUILD_SECONDS = 600.0

SHED = 503


class Hit(msgspec.Struct, frozen=True):
    """One request as vegeta saw it: ``latency`` in nanoseconds from when it was sent; ``code`` 0
    where there was no answer."""

    code: int
    latency: int
    timestamp: datetime
    error: str = ""
    headers: Mapping[str, Sequence[str]] | None = None


class OpenLoop(msgspec.Struct, frozen=True):
    """What became of a constant rate. Times in milliseconds, of accepted (2xx) answers and of
    refused ones (503) apart; null where there are none."""

    asked_per_s: float
    """The rate that vegeta was told to keep."""
    offered_per_s: float
    """The rate that it kept: less where all its connections waited for an answer."""
    accepted_per_s: float
    refused: int
    refused_with_retry_after: int
    errors: int
    """Neither accepted nor refused."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    refused_p95_ms: float | None
    connections: int
    """Most that it had open at once."""
    error_kinds: dict[str, int] = {}
    """The errors by status, or by the end of what vegeta said of them."""


def vegeta() -> Path:
    """The program, which is built where it is missing.

    :raises NotMeasurable: there is no Go, or it cannot build it.
    """
    tool = (PLACE / "vegeta").absolute()
    if not tool.exists():
        tool.parent.mkdir(parents=True, exist_ok=True)
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            raise NotMeasurable("go, which builds vegeta, is not there; Debian: golang")
        log = tool.with_suffix(".log")
        with log.open("wb") as output:
            built = subprocess.run(
                ["timeout", str(BUILD_SECONDS), go, "install", MODULE],
                env={**os.environ, "GOBIN": str(tool.parent), "GOFLAGS": "-mod=mod"},
                stdout=output,
                stderr=output,
                check=False,
            )
        if built.returncode:
            raise NotMeasurable(f"vegeta was not built; go's words are in {PLACE / log.name}")
    return tool


def attack(
    tool: Path,
    url: str,
    bodies: Sequence[bytes],
    kind: str,
    *,
    rate: float,
    seconds: float,
    connections: int,
) -> OpenLoop:
    """Posts these bodies in turn at this rate.

    :raises NotMeasurable: vegeta failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        targets, hits = Path(folder) / "targets", Path(folder) / "hits"
        targets.write_bytes(b"\n".join(target(url, body, kind) for body in bodies))
        command = [str(tool), "attack", "-format=json", f"-targets={targets}", f"-output={hits}"]
        command += [f"-rate={max(1, round(rate))}/1s", f"-duration={seconds}s", "-timeout=30s"]
        # As many workers as connections: a worker waits for its answer.
        command += [f"-{bound}={connections}" for bound in ("workers", "max-workers")]
        command += [f"-{bound}={connections}" for bound in ("connections", "max-connections")]
        command += ["-max-body=0"]
        for step in (command, [str(tool), "encode", "-to=json", f"-output={hits}.json", str(hits)]):
            ran = subprocess.run(step, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise NotMeasurable(f"vegeta failed: {ran.stderr.strip()[-200:]}")
        lines = Path(f"{hits}.json").read_bytes().splitlines()
    return summary(read_hits(lines), rate, connections)


def target(url: str, body: bytes, kind: str) -> bytes:
    """One line of vegeta's JSON targets."""
    content = base64.b64encode(body).decode()
    head = {"method": "POST", "url": url, "header": {"Content-Type": [kind]}}
    return msgspec.json.encode(head | {"body": content})


def read_hits(lines: Sequence[bytes]) -> Iterator[Hit]:
    """Each line of ``vegeta encode -to=json``."""
    decode = msgspec.json.Decoder(Hit).decode
    return map(decode, lines)


def summary(hits: Iterable[Hit], asked: float, connections: int) -> OpenLoop:
    """What became of them. The rates are those over the time in which requests were sent: answers
    that came after it are no part of what was achieved in it."""
    found = list(hits)
    accepted = sorted(hit.latency for hit in found if 200 <= hit.code < 300)
    shed = [hit for hit in found if hit.code == SHED]
    refused = sorted(hit.latency for hit in shed)
    others = [hit for hit in found if not 200 <= hit.code < 300 and hit.code != SHED]
    span = _seconds(found)
    return OpenLoop(
        asked_per_s=round(asked, 1),
        offered_per_s=round(len(found) / span, 1),
        accepted_per_s=round(_answered_in_time(found) / span, 1),
        refused=len(refused),
        refused_with_retry_after=sum("Retry-After" in (hit.headers or ()) for hit in shed),
        errors=len(others),
        p50_ms=quantile(accepted, 0.50),
        p95_ms=quantile(accepted, 0.95),
        p99_ms=quantile(accepted, 0.99),
        refused_p95_ms=quantile(refused, 0.95),
        connections=connections,
        error_kinds=dict(Counter(map(_kind, others))),
    )


def quantile(ascending: Sequence[int], share: float) -> float | None:
    """Milliseconds that this share of these nanoseconds is within; ``None`` of none."""
    if not ascending:
        return None
    return round(ascending[min(len(ascending) - 1, int(share * len(ascending)))] / 1e6, 3)


def _answered_in_time(hits: Sequence[Hit]) -> int:
    """Accepted answers that came before the last request was sent, or that one's own."""
    if not hits:
        return 0
    last = max(hit.timestamp for hit in hits)
    return sum(
        200 <= hit.code < 300
        and (
            hit.timestamp == last
            or hit.timestamp + timedelta(microseconds=hit.latency / 1000) <= last
        )
        for hit in hits
    )


def _kind(hit: Hit) -> str:
    # Without the addresses that stand in between, which would make each its own.
    return str(hit.code) if hit.code else hit.error.rpartition(": ")[2]


def _seconds(hits: Sequence[Hit]) -> float:
    """From the first request sent to the last."""
    sent = [hit.timestamp for hit in hits]
    return max(1e-6, (max(sent) - min(sent)).total_seconds())
