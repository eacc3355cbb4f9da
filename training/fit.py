"""Fitting both lanes and their calibrations to features in time order.

1. Fit on the earliest rows; the number of rounds that predicts the next slice best is kept.
2. Fit on both with that many rounds; calibrate on a still later slice.
3. Refit on all rows with the same rounds; keep that calibration.

The Isolation Forest is fitted on the legitimate rows before the calibration slice, and that
slice's legitimate rows are the window its scores are held against. Where frauds are too few for
slices, rounds and calibration come from time-forward cross-fitting over the whole table. Nothing
is reweighted or resampled: that would distort the probabilities and has brought no precision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from sentinel.calibration import NoveltyCalibration, SigmoidCalibration, log_odds
from sentinel.errors import TableError
from sentinel.runtime import TreeModel, anomaly_score, fraud_score
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from sentinel.trees import to_booster
from training.newcomers import Newcomers
from training.novelty import FOREST_SAMPLE, FOREST_TREES, fit_forest
from training.slices import LEAST_FRAUDS, Slices, choose_slices, forward_folds

CELLS_A_THREAD = 1_000_000
"""Numbers in a feature matrix from which a second thread pays; with fewer the two mostly wait for
each other (on a busy machine, badly so)."""

MAX_ROUNDS = 600
PATIENCE = 40
"""Rounds without a better prediction of the next slice after which boosting stops."""

NOVELTY_WINDOW = 200_000
"""Most rows in the novelty window, the latest ones: where a rate of 0.2% lies is told by the 400
most novel of them, and so to 5% (one in the square root of 400) of that rate."""

COARSE_BINS, FINE_BINS = 256, 1024
"""Histogram bins tried by default. Coarse ones overfit less (creditcard: 1 to 2% less log loss on
later rows); fine ones find the amount that a rule turns on, between two coarse edges."""

MUST_GAIN = 0.01
"""Share of the log loss that another parameter set must save to replace the default: less is within
the noise of a slice with some dozens of frauds."""

PRIOR_SLOPE, PRIOR_INTERCEPT = 0.1, 0.2
"""Standard deviations of the calibration's priors; see ``fit_sigmoid``."""

Features = NDArray[np.float32]
Labels = NDArray[np.int8]
OnStep = Callable[[str], None]


def default_parameters(features: int) -> dict[str, Any]:
    """XGBoost parameters that are good without a search.

    Starting from even odds (``base_score``) instead of the fraud rate: with one fraud in 600 rows
    the first hessians are so small that Newton steps overshoot by tens of log-odds. A low rate and
    few columns a tree, but never fewer than five where there are so few.
    """
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "base_score": 0.5,
        "eta": 0.05,
        "max_depth": 6,
        "min_child_weight": 1.0,
        "reg_lambda": 3.0,
        "subsample": 0.8,
        "colsample_bytree": round(min(1.0, max(0.4, 5 / features)), 3),
        "max_bin": COARSE_BINS,
    }


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose about a training run."""

    seed: int = 0
    search: int = 0
    """Parameter sets to look at beside the default, judged time-forward."""
    profiles: bool = True
    """Put the profiles at the end of the table into the bundle."""
    on_step: OnStep = lambda _: None
    """Is told what is being done."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Both lanes as model files, what turns their scores into answers, and how it came about."""

    xgboost: bytes
    isolation_forest: bytes
    calibration: SigmoidCalibration
    novelty: NoveltyCalibration
    parameters: Mapping[str, Any]
    forest_parameters: Mapping[str, Any]
    steps: tuple[dict[str, Any], ...] = field(default=())

    @property
    def models(self) -> dict[str, bytes]:
        """Each lane's model."""
        return {FRAUD_LANE: self.xgboost, NOVELTY_LANE: self.isolation_forest}


def fit(
    features: Features,
    labels: Labels,
    options: Options,
    new: Newcomers | None = None,
    novelty: NDArray[np.intp] | None = None,
) -> Fitted:
    """Both lanes fitted to (n, f) features and (n,) labels whose rows are in time order.

    ``new``: copies of rows that XGBoost learns from as well. ``novelty``: the features that the
    novelty lane looks at; all of them by default.
    The same arguments give the same bytes.

    :raises TableError: fewer than ``LEAST_FRAUDS`` frauds.
    """
    frauds = int(labels.sum())
    if frauds < LEAST_FRAUDS:
        raise TableError(
            f"{frauds} frauds are too few to train on, expected {LEAST_FRAUDS} or more"
        )
    slices = choose_slices(labels)
    fitting = _Fitting(features, labels, options, new, novelty)
    return fitting.by_slices(slices) if slices else fitting.by_folds()


def refit(
    features: Features,
    labels: Labels,
    parameters: Mapping[str, Any],
    options: Options,
    new: Newcomers | None = None,
) -> bytes:
    """XGBoost alone, on all these rows, with parameters and rounds as ``Fitted`` states them."""
    fitting = _Fitting(features, labels, options, new)
    given = {name: value for name, value in parameters.items() if name != "rounds"}
    booster = fitting.train(given, slice(0, len(labels)), parameters["rounds"])
    return bytes(booster.save_raw("ubj"))


def training_threads(features: Features) -> int:
    """Threads of XGBoost's training: by the size of the data, never by the machine.

    Sums of gradients depend on how many threads share them, and the same data must give the same
    bytes anywhere.
    """
    return 1 if features.size < CELLS_A_THREAD else 2


class _Fitting:
    def __init__(
        self,
        features: Features,
        labels: Labels,
        options: Options,
        new: Newcomers | None,
        novelty: NDArray[np.intp] | None = None,
    ) -> None:
        self._novelty = np.arange(features.shape[1]) if novelty is None else novelty
        self._features = features
        self._labels = labels
        self._options = options
        self._new = new
        self._threads = training_threads(features)
        self._steps: list[dict[str, Any]] = []

    def by_slices(self, slices: Slices) -> Fitted:
        bounds = [0, slices.fit, slices.stop, slices.end]
        frauds = [int(self._labels[a:b].sum()) for a, b in pairwise(bounds)]
        self._note(
            step="slices", fit=bounds[:2], stop=bounds[1:3], calibrate=bounds[2:], frauds=frauds
        )
        fit, stop = slice(0, slices.fit), slice(slices.fit, slices.stop)
        parameters, rounds = self._choose([(fit, stop)])
        earlier, later = slice(0, slices.stop), slice(slices.stop, slices.end)
        self._options.on_step("calibrating on the latest slice")
        score = self._scores(self.train(parameters, earlier, rounds), later)
        return self._finish(parameters, rounds, score, self._labels[later], slices.stop)

    def by_folds(self) -> Fitted:
        folds = list(forward_folds(self._labels))
        bounds = [[earlier.stop, later.stop] for earlier, later in folds]
        self._note(step="time-forward folds", judged=bounds)
        parameters, rounds = self._choose(folds)
        self._options.on_step("calibrating on the folds")
        scores = [
            self._scores(self.train(parameters, earlier, rounds), later) for earlier, later in folds
        ]
        judged = slice(folds[0][1].start, folds[-1][1].stop)
        window = round(0.75 * len(self._labels))
        return self._finish(
            parameters, rounds, np.concatenate(scores), self._labels[judged], window
        )

    def _choose(self, folds: list[tuple[slice, slice]]) -> tuple[dict[str, Any], int]:
        """Parameters and the number of rounds by the log loss on later rows."""
        default = default_parameters(self._features.shape[1])
        rng = np.random.default_rng(self._options.seed)
        candidates = [default, {**default, "max_bin": FINE_BINS}]
        candidates += [_vary(default, rng) for _ in range(self._options.search)]
        best: tuple[float, int, dict[str, Any]] | None = None
        for number, parameters in enumerate(candidates):
            self._options.on_step(f"choosing rounds ({number + 1} of {len(candidates)})")
            loss, rounds = self._validate(parameters, folds)
            self._note(step="rounds", parameters=parameters, rounds=rounds, log_loss=round(loss, 8))
            if best is None or loss < best[0] * (1 - MUST_GAIN):
                best = loss, rounds, parameters
        assert best is not None
        return best[2], best[1]

    def _validate(
        self, parameters: Mapping[str, Any], folds: list[tuple[slice, slice]]
    ) -> tuple[float, int]:
        """Least log loss over later rows, pooled over the folds, and the rounds that reach it."""
        total: NDArray[np.float64] | None = None
        rows = sum(later.stop - later.start for _, later in folds)
        for earlier, later in folds:
            curve: dict[str, dict[str, list[float]]] = {}
            fold = self._matrix(earlier, parameters)
            # Only a single fold may stop early: several are judged at the same rounds.
            patience = PATIENCE if len(folds) == 1 else None
            xgb.train(
                {**parameters, "eval_metric": "logloss", **self._fixed()},
                fold,
                MAX_ROUNDS if patience else MAX_ROUNDS // 2,
                evals=[(self._matrix(later, parameters, fold), "later")],
                early_stopping_rounds=patience,
                evals_result=curve,
                verbose_eval=False,
            )
            share = (later.stop - later.start) / rows
            losses = np.array(curve["later"]["logloss"]) * share
            total = losses if total is None else total + losses
        assert total is not None
        return float(total.min()), int(total.argmin()) + 1

    def _finish(
        self,
        parameters: dict[str, Any],
        rounds: int,
        score: NDArray[np.float64],
        labels: Labels,
        window_start: int,
    ) -> Fitted:
        calibration = fit_sigmoid(score, labels)
        self._note(step="calibration", rows=len(labels), frauds=int(labels.sum()))
        self._options.on_step("fitting the isolation forest")
        forest, novelty = self._forest(window_start)
        self._options.on_step(f"refitting on all {len(self._labels):,} rows")
        booster = self.train(parameters, slice(0, len(self._labels)), rounds)
        self._note(step="refit", rows=len(self._labels), rounds=rounds)
        return Fitted(
            xgboost=bytes(booster.save_raw("ubj")),
            isolation_forest=forest,
            calibration=calibration,
            novelty=novelty,
            parameters={**parameters, "rounds": rounds},
            forest_parameters={"n_estimators": FOREST_TREES, "max_samples": FOREST_SAMPLE},
            steps=tuple(self._steps),
        )

    def _forest(self, window_start: int) -> tuple[bytes, NoveltyCalibration]:
        legitimate = self._labels == 0
        before = self._features[:window_start][legitimate[:window_start]]
        window = self._features[window_start:][legitimate[window_start:]][-NOVELTY_WINDOW:]
        if not len(before) or not len(window):
            raise TableError("too few legitimate rows to tell what is usual")
        forest = fit_forest(before, self._novelty, self._options.seed)
        model = bytes(to_booster(forest).save_raw("ubj"))
        columns = len(self._novelty)
        self._note(step="isolation forest", rows=len(before), features=columns, window=len(window))
        scores = anomaly_score(TreeModel(model, threads=self._threads).margin(window))
        return model, NoveltyCalibration(scores)

    def train(self, parameters: Mapping[str, Any], rows: slice, rounds: int) -> xgb.Booster:
        """A booster of these rows."""
        return xgb.train({**parameters, **self._fixed()}, self._matrix(rows, parameters), rounds)

    def _scores(self, booster: xgb.Booster, rows: slice) -> NDArray[np.float64]:
        margin = booster.inplace_predict(self._features[rows], predict_type="margin")
        return fraud_score(np.asarray(margin, dtype=np.float64))

    def _matrix(
        self, rows: slice, parameters: Mapping[str, Any], ref: xgb.DMatrix | None = None
    ) -> xgb.QuantileDMatrix:
        """The rows, to train on, or with ``ref``, the matrix trained on, to judge."""
        features, labels = self._features[rows], self._labels[rows]
        if self._new is not None and ref is None:
            copies = self._new.within(rows)
            features = np.concatenate([features, self._new.features[copies]])
            labels = np.concatenate([labels, self._labels[self._new.rows[copies]]])
        return xgb.QuantileDMatrix(
            features,
            labels,
            nthread=self._threads,
            ref=ref,
            max_bin=parameters["max_bin"],
        )

    def _fixed(self) -> dict[str, Any]:
        return {"seed": self._options.seed, "nthread": self._threads}

    def _note(self, **step: Any) -> None:
        self._steps.append(step)


def fit_sigmoid(score: NDArray[np.float64], labels: Labels) -> SigmoidCalibration:
    """Platt's sigmoid of these scores, shrunk towards leaving them as they are.

    Boosting on the log loss, unweighted and stopped in time, is nearly calibrated already, and a
    few dozen frauds say little: fitted freely to 40 of them on the creditcard data the intercept
    came out anywhere from -1.4 to +1.1, and later rows were predicted worse than without it. So
    slope and intercept have normal priors around 1 and 0 (``PRIOR_SLOPE``, ``PRIOR_INTERCEPT``),
    which thousands of frauds overrule and forty do not.
    """
    odds = log_odds(score)
    fraud = labels.astype(np.float64)

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, intercept = point
        margin = slope * odds + intercept
        pull = np.array([(slope - 1) / PRIOR_SLOPE**2, intercept / PRIOR_INTERCEPT**2])
        prior = (pull[0] * (slope - 1) + pull[1] * intercept) / 2
        wrong = expit(margin) - fraud
        value = float((np.logaddexp(0, margin) - fraud * margin).sum()) + prior
        return value, np.array([float((wrong * odds).sum()), float(wrong.sum())]) + pull

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.01, None), (None, None)]
    )
    return SigmoidCalibration(slope=float(found.x[0]), intercept=float(found.x[1]))


def _vary(parameters: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Another parameter set around the defaults."""
    return {
        **parameters,
        "eta": round(float(np.exp(rng.uniform(np.log(0.02), np.log(0.15)))), 4),
        "max_depth": int(rng.integers(3, 9)),
        "min_child_weight": round(float(np.exp(rng.uniform(np.log(0.5), np.log(20)))), 2),
        "reg_lambda": round(float(np.exp(rng.uniform(np.log(0.5), np.log(20)))), 2),
        "subsample": round(float(rng.uniform(0.6, 1.0)), 2),
        "colsample_bytree": round(float(rng.uniform(0.25, 1.0)), 2),
        "max_bin": int(rng.choice([COARSE_BINS, FINE_BINS])),
    }
