"""The same two models behind LitServe, with its batching and its fast queue.

``python -m loadtest.rivals.litserve_app PORT``, the bundle in the environment. What it is tuned to,
and what else was tried, is in ``docs/benchmarks.md``.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from fastapi import Response
from litserve import LitAPI, LitServer

from loadtest.bare_judge import BUNDLE, FIELDS, BareJudge
from sentinel.answers import JSON, Answer

BATCH = 64
BATCH_SECONDS = 0.0
"""What has come is judged at once: to wait for more made it slower."""

WORKERS, HTTP_SERVERS = 1, 2
"""Processes that judge, and that speak HTTP: reading and writing is the larger part."""

Transaction = Mapping[str, Any]


class FraudAPI(LitAPI):  # type: ignore[misc]  # not installed where this is checked
    """Requests that meet are judged as one batch, and each gets its answer."""

    def setup(self, device: str) -> None:
        del device  # there are only processors here
        self._judge = BareJudge(os.environ[BUNDLE])
        self._encode = msgspec.json.Encoder().encode

    # LitServe reads the annotation and would have pydantic check the request by it.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request

    def batch(self, inputs: list[Transaction]) -> list[Transaction]:
        return inputs

    def predict(self, rows: Sequence[Transaction]) -> list[Answer]:
        numbers = np.array([[row[name] for name in FIELDS] for row in rows])
        judged = self._judge.many(numbers)
        return self._judge.answers([row["transaction_id"] for row in rows], judged)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        return output

    def encode_response(self, output: Answer) -> Response:
        return Response(self._encode(output), media_type=JSON)


if __name__ == "__main__":
    server = LitServer(
        FraudAPI(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS),
        accelerator="cpu",
        workers_per_device=WORKERS,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=HTTP_SERVERS,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
