"""The application behind its Serve handle, reached by name: wherever in the cluster it runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from kafka_ingest.errors import ScoringFailed
from sentinel.stream_exchange import Contract, Labelled, OtherContract, Scored, TryLater

logger = logging.getLogger("sentinel.kafka")

GONE_SECONDS = 0.5
"""Seconds until an application that cannot be reached is tried again."""

ANSWER_SECONDS = 30.0
"""Longest wait for one answer: far above what a batch takes, so that a call that met a router's
death is made again and not waited for."""

_GONE = (RayError, RayServeException, grpc.RpcError, TimeoutError)

Answer = TypeVar("Answer")


class HandleApp:
    """See ``scorer.App``. Belongs to one event loop."""

    def __init__(self, application: str) -> None:
        """``application``: its name in the Serve config; it need not run yet."""
        self._application = application
        self._handle: Any = None

    async def contract(self) -> Contract | TryLater:
        """See ``App``."""
        return await self._ask(lambda: self._router().stream_contract.remote())  # noqa: PLW0108  # may raise

    async def score(
        self, topic: str, schema: str, columns: bytes
    ) -> Scored | TryLater | OtherContract:
        """See ``App``."""
        return await self._ask(lambda: self._router().stream_score.remote(topic, schema, columns))

    async def label(self, records: Sequence[bytes]) -> Labelled | TryLater:
        """See ``App``."""
        return await self._ask(lambda: self._router().stream_label.remote(list(records)))

    def _router(self) -> Any:
        if self._handle is None:
            # As plain pickle: Serve's default writer is made for functions, and slow.
            self._handle = serve.get_app_handle(self._application).options(
                request_serialization="pickle", response_serialization="pickle"
            )
        return self._handle

    async def _ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer | TryLater:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await call()
        except RayTaskError as error:  # a mistake in the application's code, and so ours
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise ScoringFailed(lines[-1].strip() if lines else "it failed") from error
        except _GONE as error:
            logger.warning("the application is not to be reached: %s", type(error).__name__)
            return TryLater(GONE_SECONDS, "unreachable")
