"""The real app at a port of this machine, by one bundle at a time: what the smoke asks where no
pods run. Which bundle it has is the test's to say, as it would be the replicas'."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from sentinel.bundle import open_bundle
from tests.app.conftest import Scene, scene_of


class Service:
    """``url`` answers by the bundle that was taken last."""

    def __init__(self) -> None:
        self.url = ""

    @contextmanager
    def by(self, bundle: str) -> Iterator[None]:
        """Within the block requests are answered by this bundle."""
        before = self.url
        with _serving(bundle) as self.url:
            yield
        self.url = before


@contextmanager
def _serving(bundle: str) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []

    async def serve(scene: Scene) -> None:
        config = uvicorn.Config(scene.ingress, log_level="warning", lifespan="off")
        servers.append(uvicorn.Server(config))
        await servers[0].serve(sockets=[listening])

    thread = threading.Thread(
        target=lambda: asyncio.run(scene_of(open_bundle(bundle), serve)), daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join(10)
