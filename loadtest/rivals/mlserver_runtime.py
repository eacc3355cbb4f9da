"""The same two models as an MLServer runtime, with its adaptive batching.

One input tensor, ``features`` (n, 29), and the transaction's id as the id of the request: requests
that meet reach ``predict`` as one.
"""

import os

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from loadtest.bare_judge import BUNDLE, DECISIONS, FIELDS, BareJudge


class FraudRuntime(MLModel):  # type: ignore[misc]  # not installed where this is checked
    """Judges the rows of a request."""

    async def load(self) -> bool:
        self._judge = BareJudge(os.environ[BUNDLE])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        data = payload.inputs[0].data.root
        numbers = np.array(data, np.float64).reshape(-1, len(FIELDS))
        judged = self._judge.many(numbers)
        size = len(numbers)
        outputs = [
            ResponseOutput(
                name="decision",
                shape=[size, 1],
                datatype="BYTES",
                data=[DECISIONS[code] for code in judged.codes.tolist()],
            )
        ]
        for name, column in (
            ("fraud_probability", judged.probability),
            ("anomaly_score", judged.anomaly),
            ("novelty_p", judged.novelty),
        ):
            outputs.append(
                ResponseOutput(name=name, shape=[size, 1], datatype="FP64", data=column.tolist())
            )
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)
