"""XGBoost, without the scikit-learn that it would import for wrappers nobody here uses.

XGBoost's compatibility module imports scikit-learn wherever that is installed: half of what a model
replica needs to start. A name that ``sys.modules`` holds as None cannot be imported (Python's
reference, "The module cache"), so XGBoost takes the way it has for machines without scikit-learn.
Whoever wants scikit-learn imports it as ever, before or after.
"""

import sys

if "sklearn" in sys.modules:
    import xgboost
else:
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

__all__ = ["xgboost"]
