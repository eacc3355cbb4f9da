"""The reference design: FastAPI, and both models' own scikit-learn interfaces for each request.

``XGBClassifier.predict_proba`` and ``IsolationForest.score_samples``, one row a call. The
classifier is the bundle's; the forest is fitted at the start to the numbers that the bundle's was,
so that nothing is unpickled. uvicorn starts it as a factory, in two processes.
"""

import math
import os
from typing import Any

import numpy as np
from fastapi import FastAPI
from msgspec.structs import asdict
from pydantic import create_model
from xgboost import XGBClassifier

from loadtest.bare_judge import BUNDLE, FIELDS, BareJudge
from loadtest.bench_bundle import isolation_forest, random_features
from sentinel.bundle import open_bundle
from sentinel.scoring import FRAUD_LANE

_FIELDS: Any = {"transaction_id": (str, ...), **dict.fromkeys(FIELDS, (float, ...))}
Transaction: Any = create_model("Transaction", **_FIELDS)


def app() -> FastAPI:
    """The app for the bundle that the environment names."""
    uri = os.environ[BUNDLE]
    judge, bundle = BareJudge(uri), open_bundle(uri)
    classifier = XGBClassifier(n_jobs=1)
    classifier.load_model(bytearray(bundle.files[bundle.manifest.models[FRAUD_LANE].file]))
    forest = isolation_forest(random_features())
    made = FastAPI()

    # Of two ways the faster one: a plain function would run in FastAPI's threads, which take turns.
    @made.post("/predict")
    async def predict(transaction: Transaction) -> Any:
        values = [getattr(transaction, name) for name in FIELDS]
        features = np.array([[*values, math.log1p(values[-1])]], np.float32)
        probability = float(classifier.predict_proba(features)[0, 1])
        anomaly = -float(forest.score_samples(features)[0])
        name = transaction.transaction_id
        return asdict(judge.decided(name, probability, anomaly, values[-1]))

    return made
