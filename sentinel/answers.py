"""Decisions to answers: JSON for one or many, an Arrow stream for a batch.

The same fields in both; ``serve`` and Kafka write these bytes, ``score`` these columns.
"""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.dataset import Policy
from sentinel.decision import APPROVE, DECISIONS
from sentinel.errors import FieldError
from sentinel.parsing import Parsed
from sentinel.scoring import Decisions


class Answer(msgspec.Struct, frozen=True):
    """What a caller has back for one transaction."""

    transaction_id: str
    decision: str
    fraud_probability: float | None
    anomaly_score: float | None
    novelty_p: float | None
    reasons: tuple[str, ...]
    model_version: str
    degraded: bool


class BatchAnswer(msgspec.Struct, frozen=True):
    """``results`` holds the good rows alone, in order; ``errors`` one entry for each bad row."""

    results: list[Answer]
    errors: list[FieldError]


def answers(decisions: Decisions, policy: Policy) -> list[Answer]:
    """One answer a row."""
    version, degraded = decisions.model_version, decisions.degraded
    why = reasons(decisions, policy)
    return [
        Answer(name, DECISIONS[code], probability, anomaly, novelty, why[row], version, degraded)
        for row, (name, code, probability, anomaly, novelty) in enumerate(
            zip(
                decisions.ids.to_pylist(),
                decisions.decision.tolist(),
                _list(decisions.fraud_probability, len(why)),
                _list(decisions.anomaly_score, len(why)),
                _list(decisions.novelty_p, len(why)),
                strict=True,
            )
        )
    ]


def reasons(decisions: Decisions, policy: Policy) -> list[tuple[str, ...]]:
    """Why each row is reviewed or blocked; nothing for an approval.

    They name what the decision rests on, by the policy's own rule.
    """
    found: list[tuple[str, ...]] = [()] * len(decisions.decision)
    probability, novelty = decisions.fraud_probability, decisions.novelty_p
    for row in np.flatnonzero(decisions.decision != APPROVE):
        why = []
        if probability is None:
            why.append(f"no fraud probability could be had; the policy says {policy.fallback}")
        else:
            why.append(f"fraud probability {probability[row]:.3g}")
        if novelty is not None and novelty[row] < policy.novelty_review_below:
            why.append(
                f"unlike recent legitimate transactions: novelty p-value {novelty[row]:.2g}, "
                f"below {policy.novelty_review_below:g}"
            )
        found[row] = tuple(why)
    return found


def one_json(decisions: Decisions, policy: Policy) -> bytes:
    """The answer to a single transaction (n = 1)."""
    return msgspec.json.encode(answers(decisions, policy)[0])


def many_json(decisions: Decisions, policy: Policy, parsed: Parsed) -> bytes:
    """The answer to a list: the good rows in order, and an error for each bad one."""
    return msgspec.json.encode(BatchAnswer(answers(decisions, policy), parsed.first_errors()))


def columns(decisions: Decisions, policy: Policy) -> dict[str, pa.Array]:
    """The answer's fields as Arrow columns, a row a decision."""
    size = len(decisions.decision)
    version = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(size, np.int32)), pa.array([decisions.model_version])
    )
    return {
        "transaction_id": decisions.ids,
        "decision": pa.DictionaryArray.from_arrays(
            pa.array(decisions.decision), pa.array(DECISIONS)
        ),
        "fraud_probability": _column(decisions.fraud_probability, size),
        "anomaly_score": _column(decisions.anomaly_score, size),
        "novelty_p": _column(decisions.novelty_p, size),
        "reasons": pa.array(
            [list(why) for why in reasons(decisions, policy)], pa.list_(pa.string())
        ),
        "model_version": version,
        "degraded": pa.array(np.full(size, decisions.degraded)),
    }


def many_arrow(decisions: Decisions, policy: Policy, parsed: Parsed) -> bytes:
    """An Arrow IPC stream with a row per input row; a bad row has only its ``error``."""
    table = pa.table(columns(decisions, policy))
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


def _list(column: NDArray[np.float64] | None, size: int) -> list[Any]:
    return [None] * size if column is None else column.tolist()


def _column(column: NDArray[np.float64] | None, size: int) -> pa.Array:
    return pa.nulls(size, pa.float64()) if column is None else pa.array(column)
