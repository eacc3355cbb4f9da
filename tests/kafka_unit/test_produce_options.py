"""Options of ``sentinel produce`` that do not go together, and paces."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from kafka_ingest.commands import register
from kafka_ingest.producing import AtSpeed, at_rate
from sentinel.errors import UsageError
from sentinel.transactions import Transactions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "expected --data FILE, or --generated, and not both"),
        ("--data {file} --generated", "expected --data FILE, or --generated, and not both"),
        ("--data {file} --rate 5 --speed 2", "--rate and --speed are two paces"),
        ("--data {file} --rate 0", "--rate is 0; expected a number above 0"),
        ("--data {file} --speed nan", "--speed is nan; expected a number above 0"),
        ("--generated --speed 5", "with --generated expected --rate"),
        ("--data {plain} --dataset creditcard --speed 5", "have no time; expected --rate"),
        ("--data {file}", "--bootstrap-servers: missing"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    transactions_file: Path, creditcard_file: Path, options: str, said: str
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    register(app)
    given = options.format(file=transactions_file, plain=creditcard_file).split()
    result = CliRunner().invoke(app, ["produce", *given])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def at(*seconds: float) -> Transactions:
    size = len(seconds)
    times = np.array([round(each * 1e6) for each in seconds], np.int64)
    return Transactions(pa.array(["t"] * size), times, {}, np.zeros((size, 1)))


def test_at_a_rate_rows_are_due_one_after_the_other() -> None:
    due = at_rate(10)
    assert np.concatenate([due(at(5, 5), 0), due(at(9), 2)]).tolist() == [0, 0.1, 0.2]


def test_at_a_speed_rows_are_due_by_their_times_and_late_ones_with_those_before() -> None:
    due = AtSpeed(10)
    assert due(at(1000, 1010, 1005), 0).tolist() == [0, 1, 1]
    assert due(at(1008, 1030), 3).tolist() == [1, 3]
    assert due(at(), 5).tolist() == []
