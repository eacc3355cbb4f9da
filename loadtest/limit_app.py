"""The limit to approach: the same two models on the same runtimes with nothing else around them.

Starlette, msgspec, two processes; no validation beyond types, no queue, no other model process, no
metrics, no other bundle: what a service that did only this would cost. ``sentinel bench`` starts it
(uvicorn, a factory) with the bundle in the environment, since uvicorn's workers get nothing else.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtest.bare_judge import BUNDLE, DECISIONS, FIELDS, BareJudge, Judged
from sentinel.answers import ARROW, JSON

_Transaction: Any = msgspec.defstruct(
    "_Transaction", [("transaction_id", str), *((name, float) for name in FIELDS)]
)


class _Limit:
    """The two routes."""

    def __init__(self, uri: str) -> None:
        self._judge = BareJudge(uri)
        self._one = msgspec.json.Decoder(_Transaction)
        self._many = msgspec.json.Decoder(list[_Transaction])
        self._encode = msgspec.json.Encoder().encode

    async def predict(self, request: Request) -> Response:
        name, *values = msgspec.structs.astuple(self._one.decode(await request.body()))
        return Response(self._encode(self._judge.one(name, values)), media_type=JSON)

    async def predict_batch(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-type") == ARROW:
            table = pa.ipc.open_stream(body).read_all()
            ids = table.column("transaction_id").to_pylist()
            columns = [table.column(name).to_numpy() for name in FIELDS]
            judged = self._judge.many(np.stack(columns, axis=1))
            return Response(_arrow(ids, judged), media_type=ARROW)
        rows = [msgspec.structs.astuple(row) for row in self._many.decode(body)]
        judged = self._judge.many(np.array([row[1:] for row in rows]))
        answers = self._judge.answers([row[0] for row in rows], judged)
        body = self._encode({"results": answers, "errors": []})
        return Response(body, media_type=JSON)


def _arrow(ids: Sequence[str], judged: Judged) -> bytes:
    table = pa.table(
        {
            "transaction_id": ids,
            "decision": pa.DictionaryArray.from_arrays(
                pa.array(judged.codes.astype(np.int8)), pa.array(DECISIONS)
            ),
            "fraud_probability": judged.probability,
            "anomaly_score": judged.anomaly,
            "novelty_p": judged.novelty,
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def app() -> Starlette:
    """The app for the bundle that the environment names."""
    limit = _Limit(os.environ[BUNDLE])
    return Starlette(
        routes=[
            Route("/predict", limit.predict, methods=["POST"]),
            Route("/predict/batch", limit.predict_batch, methods=["POST"]),
        ]
    )
