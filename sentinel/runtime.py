"""Running a tree ensemble: fast for one row and for thousands, with the same answer.

ONNX Runtime answers a single row in a fraction of the time that XGBoost's own predictor needs to
be called at all; from some tens of rows on XGBoost is the faster. ``sentinel bench`` measures
both on the machine at hand. They agree to about 1e-7 in the score (tested to 1e-6).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

SMALL_BATCH = 16
"""Most rows that go to ONNX Runtime; see the table that ``sentinel bench`` prints."""


class TreeModel:
    """A tree ensemble that answers with its margin. Safe to share between threads."""

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        """Reads an XGBoost model in UBJSON; ``threads`` bounds what one call may use.

        One thread is right wherever several calls run side by side, which is everywhere but in
        training: a pool of threads for each model oversubscribes the cores.

        :raises BundleError: the bytes are no model this product can run.
        """
        # XGBoost and ONNX take a second to import: a router or a command that reads bundles without
        # running a model need not pay for it.
        import onnxruntime as ort

        from sentinel.trees import read_ensemble, to_booster, to_onnx

        ensemble = read_ensemble(model)
        self._booster = to_booster(ensemble)
        self._booster.set_param({"nthread": threads})
        self.features = ensemble.features
        self.trees = len(ensemble)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = to_onnx(ensemble).SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def margin(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) sums of leaves for (n, f) features; NaN goes each node's default way.

        :raises ValueError: the features have another width than the model was trained on, or are
            not float32 (the two runtimes would not do the same with them).
        """
        if features.ndim != 2 or features.shape[1] != self.features:
            raise ValueError(f"features have shape {features.shape}, expected (n, {self.features})")
        if features.dtype != np.float32:
            raise ValueError(f"features are {features.dtype}, expected float32")
        if len(features) <= SMALL_BATCH:
            return self.margin_small(features)
        return self.margin_large(features)

    def margin_small(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """``margin`` by ONNX Runtime."""
        if not len(features):
            return np.empty(0)
        (margin,) = self._session.run(None, {"features": features})
        return margin[:, 0].astype(np.float64)

    def margin_large(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """``margin`` by XGBoost."""
        margin = self._booster.inplace_predict(features, predict_type="margin")
        return np.asarray(margin, dtype=np.float64).reshape(len(features))


def fraud_score(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The supervised lane's score in [0, 1]: the logistic function of log-odds, uncalibrated."""
    score: NDArray[np.float64] = expit(margin)
    return score


def anomaly_score(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """The novelty lane's score in [0, 1], higher for rows that are easier to isolate.

    It is the negative of scikit-learn's ``score_samples``; this is the one place where the sign
    turns. See ``trees.from_isolation_forest`` for what the margin holds.
    """
    return np.exp2(-(1 + margin))
