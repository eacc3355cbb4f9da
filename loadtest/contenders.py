"""The servers that are measured side by side: how each is started and how it is asked."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from loadtest.bare_judge import BUNDLE
from loadtest.dialects import FIELDS_BY_NAME, MODEL, TENSORS, Dialect
from loadtest.environments import environment_for
from loadtest.processes import free_port
from loadtest.serve_configs import fixed

NAMES = (
    "limit",
    "sentinel",
    "sentinel-together",
    "sentinel-profiles",
    "sentinel-profiles-redis",
    "litserve",
    "mlserver",
    "reference",
    "kafka",
    "quixstreams",
)
"""Every contender that ``sentinel bench`` reports on, measured or not."""

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""A model runs one thread: several pools on two cores cost each contender a good part of its speed.
``sentinel serve`` sets it for itself."""


@dataclass(frozen=True, slots=True)
class Contender:
    """How to start one: ``{port}`` in the command is replaced; ``ready`` is the path that answers
    once it is up. ``batches``: it takes JSON lists and Arrow streams too, as this product does."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: str
    folder: Path | None = None
    """Where it is started; here without one."""
    dialect: Dialect = FIELDS_BY_NAME
    batches: bool = False

    def on_cores(self, cores: str) -> "Contender":
        """The same, kept to these cores, such as ``0`` or ``0,1``."""
        return replace(self, command=["taskset", "--cpu-list", cores, *self.command])


Recipe = Callable[[str, Path], Contender]
"""Makes a contender that serves a bundle, with a folder of its own for what it needs.

:raises NotMeasurable: its environment cannot be made.
"""


def limit(bundle: str, _: Path) -> Contender:
    """The same models with nothing around them, one process a core."""
    command = [*uvicorn(Path(sys.executable), "loadtest.limit_app:app"), "--workers", "2"]
    return Contender("limit", command, {BUNDLE: bundle, **ONE_THREAD}, "/", batches=True)


def service(name: str, bundle: str, folder: Path, *options: str) -> Contender:
    """``sentinel serve`` with the shipped config, but one replica of each, however long the load:
    others have fixed processes too, and a new replica's start would be measured with it."""
    command = [str(Path(sys.executable).parent / "sentinel"), "serve", str(fixed(folder)), *options]
    command += ["--bundle", bundle, "--port", "{port}"]
    return Contender(name, command, {}, "/ready", batches=True)


def apart(bundle: str, folder: Path) -> Contender:
    """The service by default: each model in a deployment of its own."""
    return service("sentinel", bundle, folder)


def together(bundle: str, folder: Path) -> Contender:
    """The service with both models in the router's own replica."""
    return service("sentinel-together", bundle, folder, "--placement", "together")


def litserve(bundle: str, _: Path) -> Contender:
    """LitServe, tuned as ``rivals.litserve_app`` says."""
    python = environment_for("litserve")
    command = [str(python), "-m", "loadtest.rivals.litserve_app", "{port}"]
    return Contender("litserve", command, {BUNDLE: bundle, **ONE_THREAD}, "/health")


MLSERVER_MODEL = {
    "name": MODEL,
    "implementation": "loadtest.rivals.mlserver_runtime.FraudRuntime",
    "max_batch_size": 64,
    "max_batch_time": 0.001,
}
"""Adaptive batching: what comes within a millisecond is judged as one."""


def mlserver(bundle: str, folder: Path) -> Contender:
    """MLServer with adaptive batching, tuned as ``docs/benchmarks.md`` says."""
    python = environment_for("mlserver")
    home = folder / "mlserver" / MODEL
    home.mkdir(parents=True, exist_ok=True)
    (home / "model-settings.json").write_bytes(msgspec.json.encode(MLSERVER_MODEL))
    settings = {
        "host": "127.0.0.1",
        "debug": False,
        "gzip_enabled": False,
        "parallel_workers": 0,
        "metrics_endpoint": None,
        "grpc_port": free_port(),
    }
    (home / "settings.json").write_bytes(msgspec.json.encode(settings))
    # The port is known only when it is started; the environment goes before settings.json.
    command = ["env", "MLSERVER_HTTP_PORT={port}", str(python.parent / "mlserver"), "start", "."]
    environment = {BUNDLE: bundle, **ONE_THREAD}
    ready = f"/v2/models/{MODEL}/ready"
    return Contender("mlserver", command, environment, ready, home, TENSORS)


def reference(bundle: str, _: Path) -> Contender:
    """The reference design, one process a core: more were slower."""
    python = environment_for("reference")
    command = [*uvicorn(python, "loadtest.rivals.reference_app:app"), "--workers", "2"]
    return Contender("reference", command, {BUNDLE: bundle, **ONE_THREAD}, "/docs")


RECIPES: Mapping[str, Recipe] = {
    "limit": limit,
    "sentinel": apart,
    "sentinel-together": together,
    "litserve": litserve,
    "mlserver": mlserver,
    "reference": reference,
}
"""Those that ``sentinel bench --only serving`` measures, in this order."""


def uvicorn(python: Path, factory: str) -> list[str]:
    """An application's command."""
    command = [str(python), "-m", "uvicorn", factory, "--factory", "--port", "{port}"]
    return [*command, "--no-access-log", "--log-level", "warning"]
