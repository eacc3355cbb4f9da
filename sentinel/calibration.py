"""From scores to probabilities and stated false-alarm rates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit, logit

_EDGE = 1e-15
"""A score of exactly 0 or 1 has no finite log-odds; it is read as this far from the edge. Nor is a
probability ever stated to be nearer: no calibration is that sure."""


class SigmoidCalibration(BaseModel):
    """Platt's calibration: ``p = expit(slope * logit(score) + intercept)``.

    Two numbers can be learnt from few frauds. The slope is positive, so the order of scores, and
    with it every rank metric, is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field(default="sigmoid", pattern="^sigmoid$")
    slope: float = Field(gt=0, allow_inf_nan=False)
    intercept: float = Field(allow_inf_nan=False)

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) probabilities of fraud, in (0, 1), for (n,) scores in [0, 1]."""
        return _off_the_edge(expit(self.slope * log_odds(score) + self.intercept))


def log_odds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log-odds that ``SigmoidCalibration`` works on; finite for every score in [0, 1]."""
    odds: NDArray[np.float64] = logit(_off_the_edge(score))
    return odds


def _off_the_edge(share: NDArray[np.float64]) -> NDArray[np.float64]:
    # np.clip does the same in twice the time, which a single request would notice.
    return np.minimum(np.maximum(share, _EDGE), 1 - _EDGE)


class NoveltyCalibration:
    """Conformal p-values of anomaly scores against a window of presumed-legitimate rows.

    ``p = (1 + #{window >= score}) / (n + 1)``: if rows like those of the window keep coming, a
    share of at most a of them has ``p <= a``. So "review below 0.002" states its own false-alarm
    rate.
    """

    def __init__(self, window: Sequence[float] | NDArray[Any]) -> None:
        """``window``: the anomaly scores of the window's rows, in any order; at least one."""
        self._ascending = np.sort(np.asarray(window, dtype=np.float32)).astype(np.float64)

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) p-values in (0, 1] for (n,) anomaly scores; small is novel."""
        size = len(self._ascending)
        # The window is stored in float32: a score equal to one of its rows must count that row.
        rounded = score.astype(np.float32).astype(np.float64)
        at_least = size - np.searchsorted(self._ascending, rounded, side="left")
        return (1 + at_least) / (size + 1)

    def __len__(self) -> int:
        """Rows in the window."""
        return len(self._ascending)

    def to_bytes(self) -> bytes:
        """The window as ascending little-endian float32."""
        return self._ascending.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "NoveltyCalibration":
        """:raises ValueError: no whole number of float32, none at all, or one outside [0, 1]."""
        window = np.frombuffer(data, "<f4")
        if not len(window) or not ((window >= 0) & (window <= 1)).all():
            raise ValueError("a novelty window needs one or more scores in [0, 1]")
        return cls(window)
