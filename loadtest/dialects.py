"""How a contender is asked: where, with which body, and how its answer is read.

The product, the limit and the reference design take a transaction as its fields. MLServer takes
tensors, by the Open Inference Protocol; that is what its own clients send.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from loadtest.bare_judge import FIELDS

Row = Mapping[str, Any]
"""A transaction, by field."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Of one transaction a request."""

    path: str
    encode: Callable[[Row], bytes]
    decode: Callable[[bytes], Mapping[str, Any]]
    """The answer, by the names of this product's own."""


MODEL = "fraud"
"""The model's name at MLServer."""


def _as_tensor(row: Row) -> bytes:
    tensor = {"name": "features", "shape": [1, len(FIELDS)], "datatype": "FP64"}
    data = [row[name] for name in FIELDS]
    return msgspec.json.encode({"id": row["transaction_id"], "inputs": [tensor | {"data": data}]})


class _Output(msgspec.Struct):
    name: str
    data: Sequence[Any]


class _Inference(msgspec.Struct):
    id: str
    outputs: list[_Output]


def _of_tensors(body: bytes) -> Mapping[str, Any]:
    answer = msgspec.json.decode(body, type=_Inference)
    return {each.name: each.data[0] for each in answer.outputs} | {"transaction_id": answer.id}


FIELDS_BY_NAME = Dialect("/predict", msgspec.json.encode, msgspec.json.decode)
TENSORS = Dialect(f"/v2/models/{MODEL}/infer", _as_tensor, _of_tensors)
