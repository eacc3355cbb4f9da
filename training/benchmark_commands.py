"""``sentinel benchmark``: our models beside published ones, on public protocols."""

import os
from typing import Annotated

import typer

from sentinel.console import print_json, progress, table

DataOption = Annotated[str, typer.Option(help="The public table, Parquet or CSV.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def benchmarks() -> typer.Typer:
    """The commands below ``sentinel benchmark``."""
    app = typer.Typer(
        help="Judge what is trained by default on public protocols, beside published figures.",
        no_args_is_help=True,
    )
    app.callback()(_group)
    app.command()(handbook)
    app.command()(creditcard)
    app.command()(unseen)
    return app


def _group() -> None:
    # Read when XGBoost is imported; see ``commands.train``.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def handbook(data: DataOption, json: JsonFlag = False) -> None:
    """The Fraud Detection Handbook's weeks: AUC, average precision, card precision@100.

    Needs its simulated transactions from 2018-04-01 on. Takes some minutes.

    Example: sentinel benchmark handbook --data transactions.parquet --json
    """
    from training.handbook import TABLES, benchmark_handbook

    with progress("the handbook's protocol") as step:
        result = benchmark_handbook(data, step)
    if json:
        print_json(result)
        return
    for title, columns, rows in TABLES:
        table(title, list(rows(result)), columns)


def creditcard(data: DataOption, json: JsonFlag = False) -> None:
    """The creditcard data by row order, beside the random split of the reference system.

    Takes some minutes.

    Example: sentinel benchmark creditcard --data creditcard.parquet --json
    """
    from training.creditcard import COLUMNS, benchmark_creditcard, table_rows

    with progress("creditcard") as step:
        result = benchmark_creditcard(data, step)
    if json:
        print_json(result)
        return
    table(f"{result['rows']:,} rows, {result['frauds']} frauds", list(table_rows(result)), COLUMNS)


def unseen(data: DataOption, json: JsonFlag = False) -> None:
    """What is found of a fraud that nobody has labelled: one scenario left out at a time.

    Needs the handbook's simulated transactions with their scenarios. Takes some minutes.

    Example: sentinel benchmark unseen --data transactions.parquet --json
    """
    from training.unseen import benchmark_unseen
    from training.unseen_report import ALARM_COLUMNS, COLUMNS, alarm_rows, unseen_rows

    with progress("fraud nobody has labelled") as step:
        result = benchmark_unseen(data, step)
    if json:
        print_json(result)
        return
    table("Found with 100 cards a day, validation weeks", unseen_rows(result), COLUMNS)
    table("False alarms of the novelty lane", alarm_rows(result), ALARM_COLUMNS)
