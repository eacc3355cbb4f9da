"""XGBoost comes without scikit-learn, and nobody who wants scikit-learn notices."""

import subprocess
import sys

import pytest

FIT = """
import numpy as np
x = np.arange(40.0).reshape(-1, 1)
data = xgb.DMatrix(x, label=x[:, 0] > 20)
booster = xgb.train({"objective": "binary:logistic"}, data, 2)
assert (booster.predict(data) > 0.5).sum() == 19
"""


def printed(script: str) -> str:
    """What a new Python prints that runs this."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("imports", "scikit_learn"),
    [
        ("from sentinel.trees import xgb", False),
        ("from sentinel.trees import xgb; from sklearn.ensemble import IsolationForest", True),
        ("from sklearn.ensemble import IsolationForest; from sentinel.trees import xgb", True),
        ("import xgboost; from sentinel.trees import xgb; assert xgb is xgboost", True),
    ],
)
def test_xgboost_works_with_and_without_scikit_learn(imports: str, scikit_learn: bool) -> None:
    script = f"import sys\n{imports}\n{FIT}\nprint('sklearn' in sys.modules)"
    assert printed(script) == str(scikit_learn)


def test_what_runs_a_model_does_not_import_scikit_learn() -> None:
    script = "import sys, deployments.lane_server, sentinel.trees; print('sklearn' in sys.modules)"
    assert printed(script) == "False"
