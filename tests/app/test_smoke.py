"""What is asked of the service after a sync, over a real socket of the real app."""

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ray_cluster.errors import ClusterError, NotReady
from ray_cluster.smoke import IN_A_ROW, Smoked, smoke
from sentinel.bundle import open_bundle
from serve_app.api import RefusedBundle
from serve_app.keys import add_key
from tests.app.conftest import Run, Scene

Ask = Callable[[str], Any]


def served(ask: Ask, prepare: Callable[[Scene], None] = lambda _: None) -> Callable[..., Any]:
    """A scene: what ``ask(url)`` finds, from a thread of its own, at the app's address."""

    async def scene(scene: Scene) -> Any:
        prepare(scene)
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(scene.ingress, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            return await asyncio.to_thread(ask, f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.should_exit = True
            await running

    return scene


def without_xgboost(scene: Scene) -> None:
    scene.lanes.missing = {"xgboost"}


def test_it_passes_when_the_new_bundle_answers_again_and_again(run: Run, plain_bundle: str) -> None:
    digest = open_bundle(plain_bundle).digest
    done: Smoked = run(served(lambda url: smoke(url, digest, patience_s=0)))
    assert (done.digest, done.answers) == (digest, IN_A_ROW)


def test_it_passes_with_profiles_and_touches_nobodys(
    run_profiles: Run, transactions_bundle: str
) -> None:
    digest = open_bundle(transactions_bundle).digest
    seen: list[dict[str, int]] = []

    def ask(url: str) -> Smoked:
        return smoke(url, digest, patience_s=0)

    async def scene(scene: Scene) -> None:
        await served(ask)(scene)
        for key in ("sentinel-smoke", "42"):
            row = {"customer_id": key, "terminal_id": key}
            seen.append(scene.counted(row))

    run_profiles(scene, cold=True)
    assert seen == [
        {"customer_id": IN_A_ROW, "terminal_id": IN_A_ROW},
        {"customer_id": 0, "terminal_id": 0},
    ]


def test_an_old_bundle_that_answers_is_named_with_the_reason_of_the_refusal(
    run: Run, plain_bundle: str
) -> None:
    old, new = open_bundle(plain_bundle).digest, "f" * 64

    def refuse(scene: Scene) -> None:
        scene.router.refusals = [RefusedBundle("XGBoost", "s3://models/bad", "it was changed")]

    with pytest.raises(NotReady) as error:
        run(served(lambda url: smoke(url, new, patience_s=0), refuse))
    said = str(error.value)
    assert all(word in said for word in (old, new, "XGBoost", "s3://models/bad", "it was changed"))


def test_answers_without_one_model_do_not_pass(run: Run, plain_bundle: str) -> None:
    digest = open_bundle(plain_bundle).digest
    with pytest.raises(NotReady, match="degraded"):
        run(served(lambda url: smoke(url, digest, patience_s=0), without_xgboost))


def test_nobody_there_is_said_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotReady, match=re.escape(f"127.0.0.1:{port}")):
        smoke(f"http://127.0.0.1:{port}", "f" * 64, patience_s=0)


def test_a_service_with_keys_wants_one(run: Run, plain_bundle: str, tmp_path: Path) -> None:
    digest = open_bundle(plain_bundle).digest
    keys = tmp_path / "keys.yaml"
    key = add_key(keys, "smoke", ("score", "read"))
    with pytest.raises(ClusterError, match="401"):
        run(served(lambda url: smoke(url, digest, patience_s=0)), str(keys))
    done: Smoked = run(served(lambda url: smoke(url, digest, key=key, patience_s=0)), str(keys))
    assert done.answers == IN_A_ROW
