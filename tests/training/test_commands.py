"""The command line as a person or a script uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SENTINEL = Path(sys.executable).with_name("sentinel")


def sentinel(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SENTINEL), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


@pytest.mark.parametrize("command", ["generate", "train", "evaluate", "bench", "serve"])
def test_every_commands_help_shows_an_example(command: str) -> None:
    shown = sentinel(command, "--help")
    assert shown.returncode == 0
    assert f"Example: sentinel {command}" in shown.stdout


def test_help_is_shown_without_a_command_and_lists_them_all() -> None:
    shown = sentinel("--help").stdout
    assert all(name in shown for name in ("generate", "train", "evaluate", "bench", "serve"))


def test_a_newcomer_generates_trains_and_evaluates(tmp_path: Path) -> None:
    made = sentinel(
        "generate", "--days", 40, "--customers", 150, "--terminals", 300, "--seed", 7,
        "--out", "table.parquet", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    generated = json.loads(made.stdout)
    assert generated["rows"] == pq.read_metadata(tmp_path / "table.parquet").num_rows
    trained = sentinel(
        "train", "--data", "table.parquet", "--dataset", "transactions", "--out", "bundle",
        "--until", "2018-05-04", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    version = json.loads(trained.stdout)["model_version"]
    judged = sentinel(
        "evaluate", "--bundle", "bundle", "--data", "table.parquet", "--from", "2018-05-04",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["model_version"] == version
    assert {"rows", "frauds", "average_precision", "auroc", "recall_at_1pct_fpr", "brier_skill",
            "expected_calibration_error", "regret_per_1000"} <= set(result)  # fmt: skip
    for name in ("average_precision", "auroc", "brier_skill"):
        figure = result[name]
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_evaluating_shows_a_person_both_lanes(
    transactions_bundle: str, transactions_file: Path
) -> None:
    shown = sentinel("evaluate", "--bundle", transactions_bundle, "--data", transactions_file)
    assert shown.returncode == 0
    for word in ("average_precision", "xgboost alone", "isolation_forest alone"):
        assert word in shown.stdout
    assert "decisions: approve" in shown.stderr


def train(data: object, dataset: object, out: object, *more: object) -> tuple[int, str]:
    done = sentinel("train", "--data", data, "--dataset", dataset, "--out", out, *more)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def test_a_bad_table_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    code, said = train(bad, "transactions", tmp_path / "out")
    assert code == 1
    assert (
        said
        == f"sentinel: {bad}: there is no column timestamp or TX_DATETIME (when the card was used)"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv"]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    code, said = train(tmp_path / "none.parquet", "transactions", tmp_path / "out")
    assert (code, said.count("\n")) == (1, 0)
    assert "there is no such file" in said


def test_an_unknown_dataset_is_wrong_use(transactions_file: Path, tmp_path: Path) -> None:
    code, said = train(transactions_file, "transactoins", tmp_path / "out")
    assert code == 2
    assert "creditcard, transactions" in said


def test_a_misspelt_key_in_a_description_is_named_with_a_suggestion(
    transactions_file: Path, tmp_path: Path
) -> None:
    description = tmp_path / "mine.yaml"
    shipped = Path(__file__).parents[2] / "sentinel" / "datasets" / "transactions.yaml"
    description.write_text(shipped.read_text().replace("minimum: 0", "minimun: 0"))
    code, said = train(transactions_file, description, tmp_path / "out")
    assert code == 2
    assert "fields.amount.minimun: unknown key; did you mean 'minimum'?" in said


def test_a_wrong_option_is_wrong_use() -> None:
    assert sentinel("train", "--dat", "x").returncode == 2
    assert sentinel("generate", "--days", "0", "--out", "x.parquet").returncode == 2
    assert sentinel("nonsense").returncode == 2


def test_evaluating_a_broken_bundle_names_the_broken_file(
    transactions_bundle: str, transactions_file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "bundle"
    subprocess.run(["cp", "-r", transactions_bundle, broken], check=True)
    model = broken / "xgboost.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    done = sentinel("evaluate", "--bundle", broken, "--data", transactions_file)
    assert done.returncode == 1
    assert "xgboost.ubj was changed" in done.stderr
    assert "Traceback" not in done.stderr
