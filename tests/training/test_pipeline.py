"""A small training from end to end, and what a bundle then says of itself."""

from pathlib import Path

import numpy as np
import pytest

from sentinel.bundle import open_bundle
from sentinel.calibration import log_odds
from sentinel.dataset import load_description
from sentinel.errors import BundleError, TableError
from sentinel.history import table_features
from sentinel.table import read_table
from training.fit import Options, fit, fit_sigmoid
from training.judge import judge_rows
from training.pipeline import train


def test_the_same_data_and_seed_give_the_same_bytes(
    transactions_file: Path, transactions_bundle: str, tmp_path: Path
) -> None:
    table = read_table(str(transactions_file), load_description("transactions"))
    again = train(table, str(tmp_path / "again"))
    assert again.model_version == open_bundle(transactions_bundle).digest
    for name in [*again.manifest.files, "manifest.json"]:
        ours, theirs = tmp_path / "again" / name, Path(transactions_bundle) / name
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_another_seed_gives_another_bundle(
    creditcard_file: Path, creditcard_bundle: str, tmp_path: Path
) -> None:
    table = read_table(str(creditcard_file), load_description("creditcard"))
    other = train(table, str(tmp_path / "other"), Options(seed=1))
    assert other.model_version != open_bundle(creditcard_bundle).digest


@pytest.mark.parametrize("bundle", ["transactions_bundle", "creditcard_bundle"])
def test_a_bundle_names_how_it_was_made(bundle: str, request: pytest.FixtureRequest) -> None:
    manifest = open_bundle(request.getfixturevalue(bundle)).manifest
    steps = [step["step"] for step in manifest.steps]
    assert steps[0] in ("slices", "time-forward folds")
    assert steps[1:] == ["rounds", "rounds", "calibration", "isolation forest", "refit"]
    assert manifest.steps[-1]["rows"] == manifest.data.rows
    assert manifest.models["xgboost"].trees == manifest.models["xgboost"].parameters["rounds"]
    assert {"xgboost-cpu", "scikit-learn", "numpy", "python"} <= set(manifest.versions)


def test_the_stated_quality_was_measured_on_rows_after_those_trained_on(
    creditcard_bundle: str,
) -> None:
    manifest = open_bundle(creditcard_bundle).manifest
    quality = manifest.quality
    assert quality["measured"]
    assert quality["trained_on"]["rows"] + quality["together"]["rows"] == manifest.data.rows
    assert (
        quality["together"]["average_precision"]["value"] > 0.5
    )  # the made-up frauds are findable
    assert sum(c["rows"] for c in quality["decisions"].values()) == quality["together"]["rows"]


def test_a_model_beats_the_base_rate_on_rows_it_never_saw(
    creditcard_file: Path, tmp_path: Path
) -> None:
    description = load_description("creditcard")
    uri = str(tmp_path / "bundle")
    train(read_table(str(creditcard_file), description, until="0.7"), uri)
    later = read_table(str(creditcard_file), description, since="0.7")
    bundle = open_bundle(uri)
    features, _ = table_features(later)
    judged = judge_rows(bundle.judge(), bundle.lanes(), later.transactions, features, later.labels)
    quality = judged.quality(resamples=200)
    assert quality.auroc.value > 0.9
    assert quality.brier_skill.value > 0.3
    assert quality.expected_calibration_error.value < 0.03


def test_a_place_that_holds_something_else_is_refused_before_training(
    creditcard_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    table = read_table(str(creditcard_file), load_description("creditcard"))
    steps: list[str] = []
    with pytest.raises(BundleError, match="holds other files"):
        train(table, str(tmp_path), Options(on_step=steps.append))
    assert steps == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["letters.txt"]


def test_a_handful_of_frauds_is_too_few() -> None:
    features = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    labels = np.zeros(500, dtype=np.int8)
    labels[::100] = 1
    with pytest.raises(TableError, match="5 frauds are too few"):
        fit(features, labels, Options())


def test_few_frauds_are_cross_fitted_forward_in_time() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2_000, 4)).astype(np.float32)
    labels = (features[:, 0] + rng.normal(size=2_000) > 3.2).astype(np.int8)
    assert 10 <= labels.sum() < 80
    fitted = fit(features, labels, Options())
    assert fitted.steps[0]["step"] == "time-forward folds"
    judged = [step for step in fitted.steps if step["step"] == "calibration"]
    assert judged[0]["frauds"] < labels.sum()  # the first block is only ever trained on


def test_a_parameter_set_replaces_the_default_only_by_predicting_the_next_slice_better() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(4_000, 6)).astype(np.float32)
    labels = (features[:, 0] * features[:, 1] + rng.normal(size=4_000) > 2.5).astype(np.int8)
    fitted = fit(features, labels, Options(search=2))
    tried = [step for step in fitted.steps if step["step"] == "rounds"]
    assert [step["parameters"]["max_bin"] for step in tried[:2]] == [256, 1024]
    assert len(tried) == 4
    chosen = next(
        s for s in tried if {**s["parameters"], "rounds": s["rounds"]} == fitted.parameters
    )
    assert chosen is tried[0] or chosen["log_loss"] < 0.99 * tried[0]["log_loss"]
    assert chosen["log_loss"] * 0.99 <= min(step["log_loss"] for step in tried)


def test_many_frauds_overrule_the_calibrations_prior() -> None:
    rng = np.random.default_rng(0)
    margin = rng.normal(-2, 2, 200_000)
    labels = (rng.random(len(margin)) < 1 / (1 + np.exp(-(0.6 * margin - 1)))).astype(np.int8)
    found = fit_sigmoid(1 / (1 + np.exp(-margin)), labels)
    assert found.slope == pytest.approx(0.6, abs=0.02)
    assert found.intercept == pytest.approx(-1, abs=0.05)


def test_a_few_frauds_leave_the_scores_nearly_as_they_are() -> None:
    rng = np.random.default_rng(0)
    margin = np.concatenate([rng.normal(-6, 1, 5_000), rng.normal(2, 1, 10)])
    labels = np.repeat(np.array([0, 1], dtype=np.int8), [5_000, 10])
    found = fit_sigmoid(1 / (1 + np.exp(-margin)), labels)
    assert found.slope == pytest.approx(1, abs=0.3)
    assert abs(found.intercept) < 0.5


def test_scores_that_rank_frauds_last_still_give_a_rising_calibration() -> None:
    score = np.linspace(0.001, 0.999, 2_000)
    labels = (score < 0.3).astype(np.int8)
    assert fit_sigmoid(score, labels).slope > 0
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
