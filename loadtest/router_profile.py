"""Where a request's time goes in the router: ``python -m loadtest.router_profile FOLDER``.

Starts the service, keeps 64 connections busy and has py-spy look at the router's Python stack some
hundred times a second. Each look counts for the innermost piece of software in that stack that has
a name here. Times are the router's processor time for a request (from the kernel, without py-spy)
shared out by these counts, so they say which piece is large, not what it would take by itself.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from loadtest.bench_bundle import write_bench_bundle
from loadtest.bench_command import markdown
from loadtest.cells import SINGLE_64
from loadtest.contenders import Contender, apart
from loadtest.processes import Started, running
from loadtest.replicas import ROUTER, replicas
from loadtest.serving_bodies import bodies_for
from loadtest.wrk import Measured, run_wrk

SECONDS = 8
LOOKS_A_SECOND = 200

PIECES: Mapping[str, tuple[str, ...]] = {
    "counting and timing (Ray's metrics)": ("ray/util/metrics.py", "ray/serve/metrics.py"),
    "the calls to the models (Serve's handles, gRPC)": (
        "ray/serve/handle.py",
        "ray/serve/_private/router.py",
        "ray/serve/_private/request_router/",
        "ray/serve/_private/replica_result.py",
        "ray/serve/_private/serialization.py",
        "ray/_private/authentication/",
        "grpc/",
    ),
    "HTTP (uvicorn)": ("uvicorn/",),
    "Serve's ingress": ("ray/serve/",),
    "ours, a request: keys, body, answer": ("serve_app/ingress.py", "serve_app/predict.py",
                                            "serve_app/bodies.py", "sentinel/coalescing.py"),
    "ours, a batch: columns, features, decisions": ("sentinel/", "serve_app/", "deployments/"),
}  # fmt: skip
"""Each piece by what the paths of its files hold, in order: the first that fits."""

_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*<')

REST = "the event loop itself"
"""What no Python frame of a piece was seen for."""


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Each piece's share of what py-spy saw (its ``raw`` format: frames, outermost first, divided
    by semicolons, and a count)."""
    seen: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        seen[_piece_of(frames.split(";"))] += int(count)
    total = seen.total() or 1
    return {piece: seen[piece] / total for piece in [*PIECES, REST]}


def titled(drawing: str) -> str:
    """The flame graph with a title that says what it shows, where py-spy has its own command."""
    return _TITLE.sub(r"\1The router's Python stacks at 64 connections<", drawing, count=1)


def _piece_of(stack: list[str]) -> str:
    for frame in reversed(stack):
        for piece, paths in PIECES.items():
            if any(path in frame for path in paths):
                return piece
    return REST


def _load(contender: Contender, started: Started) -> Measured:
    return run_wrk(
        started.url,
        SINGLE_64.path,
        bodies_for(contender, SINGLE_64),
        SINGLE_64.kind,
        connections=SINGLE_64.connections,
        seconds=SECONDS,
    )


def _watched(contender: Contender, started: Started, router: int, form: str, out: Path) -> None:
    spy = [str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(router)]
    spy += ["--rate", str(LOOKS_A_SECOND), "--duration", str(SECONDS - 1)]
    spy += ["--gil", "--nonblocking"]  # whoever holds it works; the router waits for nobody
    spy += ["--format", form, "--output", str(out)]
    with subprocess.Popen(
        spy, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as watching:
        _load(contender, started)
        _, said = watching.communicate()
    if watching.returncode:
        raise RuntimeError(f"py-spy: {said.strip()}")


def main(folder: Path) -> None:
    """Writes the flame graph and the table into this folder."""
    with tempfile.TemporaryDirectory() as temporary:
        bundle, raw = Path(temporary) / "bundle", Path(temporary) / "raw"
        write_bench_bundle(str(bundle))
        contender = apart(str(bundle), Path(temporary))
        with running(contender, Path(temporary)) as started:
            _load(contender, started)  # to warm up
            (router,) = (process for name, process in replicas(started) if name == ROUTER)
            before = router.cpu_times()
            measured = _load(contender, started)
            after = router.cpu_times()
            _watched(contender, started, router.pid, "raw", raw)
            drawing = Path(temporary) / "flame.svg"
            _watched(contender, started, router.pid, "flamegraph", drawing)
            spent = after.user + after.system - before.user - before.system
        micros = 1e6 * spent / measured.requests
        found = shares(raw.read_text().splitlines())
    rows = [[piece, f"{share:.0%}", f"{share * micros:,.0f}"] for piece, share in found.items()]
    rows.append(["all of it", "100%", f"{micros:,.0f}"])
    table = markdown(["the router at 64 connections", "share", "us a request"], rows)
    (folder / "router-profile.md").write_text(table + "\n")
    (folder / "router-flame.svg").write_text(titled(drawing.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
