"""The limit to approach: the same two models on the same runtimes with nothing else around them.

Starlette, msgspec, two processes; no validation beyond types, no queue, no other model process, no
metrics, no other bundle. Written by hand for the ``creditcard`` fields, it is what a service that
did only this would cost. ``sentinel bench`` starts it (uvicorn, a factory) with the bundle in the
environment, since uvicorn's workers get nothing else.
"""

import bisect
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sentinel.answers import ARROW, JSON, Answer
from sentinel.bundle import open_bundle
from sentinel.runtime import TreeModel, anomaly_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

BUNDLE = "SENTINEL_BENCH_BUNDLE"
"""The environment variable with the bundle's path."""

DECISIONS = ("approve", "review", "block")
FIELDS = (*(f"V{at}" for at in range(1, 29)), "Amount")

_Transaction: Any = msgspec.defstruct(
    "_Transaction", [("transaction_id", str), *((name, float) for name in FIELDS)]
)


class _Limit:
    """Both models and what follows from their scores."""

    def __init__(self, uri: str) -> None:
        bundle = open_bundle(uri)
        manifest = bundle.manifest
        self._version = bundle.digest
        self._policy = manifest.policy
        self._fraud, self._forest = (
            TreeModel(bundle.files[manifest.models[lane].file])
            for lane in (FRAUD_LANE, NOVELTY_LANE)
        )
        self._window = np.frombuffer(bundle.files[manifest.novelty.file], "<f4").astype(np.float64)
        self._ascending = self._window.tolist()
        self._one = msgspec.json.Decoder(_Transaction)
        self._many = msgspec.json.Decoder(list[_Transaction])
        self._encode = msgspec.json.Encoder().encode

    async def predict(self, request: Request) -> Response:
        row = self._one.decode(await request.body())
        values = msgspec.structs.astuple(row)
        features = np.array([[*values[1:], math.log1p(values[-1])]], np.float32)
        margin = float(self._fraud.margin_small(features)[0])
        anomaly = 2.0 ** -(1 + float(self._forest.margin_small(features)[0]))
        probability = 1 / (1 + math.exp(-margin))
        size = len(self._ascending)
        at_least = size - bisect.bisect_left(self._ascending, anomaly)
        novelty = (1 + at_least) / (size + 1)
        code = self._decide(probability, novelty, values[-1])
        answer = self._answer(values[0], code, probability, anomaly, novelty)
        return Response(self._encode(answer), media_type=JSON)

    async def predict_batch(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-type") == ARROW:
            table = pa.ipc.open_stream(body).read_all()
            ids = table.column("transaction_id").to_pylist()
            columns = [table.column(name).to_numpy() for name in FIELDS]
            return Response(
                self._arrow(ids, self._columns(np.stack(columns, axis=1))), media_type=ARROW
            )
        rows = [msgspec.structs.astuple(row) for row in self._many.decode(body)]
        numbers = np.array([row[1:] for row in rows])
        codes, probability, anomaly, novelty = self._columns(numbers)
        answers = [
            self._answer(row[0], code, p, a, n)
            for row, code, p, a, n in zip(
                rows,
                codes.tolist(),
                probability.tolist(),
                anomaly.tolist(),
                novelty.tolist(),
                strict=True,
            )
        ]
        body = self._encode({"results": answers, "errors": []})
        return Response(body, media_type=JSON)

    def _columns(
        self, numbers: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        features = np.column_stack([numbers, np.log1p(numbers[:, -1])]).astype(np.float32)
        probability = 1 / (1 + np.exp(-self._fraud.margin(features)))
        anomaly = anomaly_score(self._forest.margin(features))
        size = len(self._window)
        novelty = (1 + size - np.searchsorted(self._window, anomaly)) / (size + 1)
        amount = numbers[:, -1]
        missed, blocked = self._costs(amount)
        costs = [
            probability * missed,
            self._review(probability, missed),
            (1 - probability) * blocked,
        ]
        codes = np.argmin(costs, axis=0)
        codes[(codes == 0) & (novelty < self._policy.novelty_review_below)] = 1
        return codes, probability, anomaly, novelty

    def _decide(self, probability: float, novelty: float, amount: float) -> int:
        missed, blocked = self._costs(amount)
        costs = (
            probability * missed,
            self._review(probability, missed),
            (1 - probability) * blocked,
        )
        code = costs.index(min(costs))
        return 1 if code == 0 and novelty < self._policy.novelty_review_below else code

    def _costs(self, amount: Any) -> tuple[Any, Any]:
        missed, blocked = self._policy.missed_fraud, self._policy.false_block
        return (
            missed.fixed + missed.per_amount * amount,
            blocked.fixed + blocked.per_amount * amount,
        )

    def _review(self, probability: Any, missed: Any) -> Any:
        policy = self._policy
        return policy.review_cost + probability * (1 - policy.review_catch_rate) * missed

    def _answer(self, name: str, code: int, p: float, anomaly: float, novelty: float) -> Answer:
        reasons = () if code == 0 else (f"fraud probability {p:.3g}",)
        return Answer(name, DECISIONS[code], p, anomaly, novelty, reasons, self._version, False)

    def _arrow(self, ids: Sequence[str], found: tuple[NDArray[Any], ...]) -> bytes:
        codes, probability, anomaly, novelty = found
        table = pa.table(
            {
                "transaction_id": ids,
                "decision": pa.DictionaryArray.from_arrays(
                    pa.array(codes.astype(np.int8)), pa.array(DECISIONS)
                ),
                "fraud_probability": probability,
                "anomaly_score": anomaly,
                "novelty_p": novelty,
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
