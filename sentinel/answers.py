"""Decisions to answers: JSON for one or many, an Arrow stream for a batch.

The same fields in both; ``serve`` and Kafka write these bytes, ``score`` these columns.
"""

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.decision import DECISIONS
from sentinel.errors import FieldError
from sentinel.parsing import Parsed
from sentinel.scoring import Decisions

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
"""The media types of requests and answers."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a caller has back for one transaction."""

    transaction_id: str
    decision: str
    fraud_probability: float | None
    anomaly_score: float | None
    novelty_p: float | None
    reasons: tuple[str, ...]
    model_version: str
    degraded: bool


_ENCODER = msgspec.json.Encoder()


class BatchAnswer(msgspec.Struct, frozen=True):
    """``results`` holds the good rows alone, in order; ``errors`` one entry for each bad row."""

    results: list[Answer]
    errors: list[FieldError]


def answers(decisions: Decisions) -> list[Answer]:
    """One answer a row."""
    return [
        Answer(name, DECISIONS[code], probability, anomaly, novelty, why, version, degraded)
        for name, code, probability, anomaly, novelty, why, version, degraded in zip(
            decisions.ids.to_pylist(),
            decisions.decision.tolist(),
            _list(decisions.fraud_probability),
            _list(decisions.anomaly_score),
            _list(decisions.novelty_p),
            decisions.reasons.tolist(),
            decisions.model_version.tolist(),
            decisions.degraded.tolist(),
            strict=True,
        )
    ]


def each_json(decisions: Decisions) -> list[bytes]:
    """The answer to each row by itself, for as many callers that each sent one transaction."""
    return list(map(_ENCODER.encode, answers(decisions)))


def many_json(decisions: Decisions, parsed: Parsed) -> bytes:
    """The answer to a list: the good rows in order, and an error for each bad one."""
    return msgspec.json.encode(BatchAnswer(answers(decisions), parsed.first_errors()))


def columns(decisions: Decisions) -> dict[str, pa.Array]:
    """The answer's fields as Arrow columns, a row a decision."""
    return {
        "transaction_id": decisions.ids,
        "decision": pa.DictionaryArray.from_arrays(
            pa.array(decisions.decision), pa.array(DECISIONS)
        ),
        "fraud_probability": _column(decisions.fraud_probability),
        "anomaly_score": _column(decisions.anomaly_score),
        "novelty_p": _column(decisions.novelty_p),
        "reasons": pa.array([list(why) for why in decisions.reasons], pa.list_(pa.string())),
        "model_version": pa.array(decisions.model_version, pa.string()).dictionary_encode(),
        "degraded": pa.array(decisions.degraded),
    }


def many_arrow(decisions: Decisions, parsed: Parsed) -> bytes:
    """An Arrow IPC stream with a row per input row; a bad row has only its ``error``."""
    table = pa.table(columns(decisions))
    errors: list[str | None] = [None] * parsed.count
    if parsed.errors:
        places = np.full(parsed.count, -1)
        places[parsed.rows] = np.arange(len(parsed.rows))
        table = table.take(pa.array(places, mask=places < 0))
        for error in parsed.first_errors():
            errors[error.index or 0] = str(error)
    table = table.append_column("error", pa.array(errors, pa.string()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _list(column: NDArray[np.float64]) -> list[float | None]:
    """The column's values, ``None`` where the lane was missing."""
    missing = np.isnan(column)
    if not missing.any():
        return column.tolist()
    return [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)]


def _column(column: NDArray[np.float64]) -> pa.Array:
    return pa.array(column, from_pandas=True)  # NaN is null
