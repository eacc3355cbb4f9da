"""``sentinel generate``, ``train`` and ``evaluate``.

Each answers a mistake with one line and an exit code: 2 for a wrong use of the command, 1 for
data or a bundle that cannot be used. Progress goes to standard error, ``--json`` to standard
output.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.console import note, print_json, progress, table
from training.benchmark_commands import benchmarks

Since = Annotated[
    str | None, typer.Option("--from", help="First time to use (or a fraction of the rows).")
]
Until = Annotated[str | None, typer.Option(help="Time to stop before (or a fraction of the rows).")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(generate)
    app.command()(train)
    app.command()(evaluate)
    app.command()(recalibrate)
    app.add_typer(benchmarks(), name="benchmark")


def generate(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    days: Annotated[int, typer.Option(min=1, help="Calendar days.")] = 60,
    customers: Annotated[int, typer.Option(min=1, help="Card holders.")] = 2_500,
    terminals: Annotated[int, typer.Option(min=1, help="Places that take cards.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Simulate card transactions with three kinds of fraud.

    By the public rules of the Fraud Detection Handbook; about 0.8% are frauds.

    Example: sentinel generate --days 60 --customers 2500 --out transactions.parquet
    """
    from sentinel.errors import TableError
    from training.generate import Simulation, simulate, write

    if out.is_dir() or not out.parent.is_dir():
        problem = f"{out} is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise typer.BadParameter(problem, param_hint="--out")
    settings = Simulation(days=days, customers=customers, terminals=terminals, seed=seed)
    with progress("simulating", total=days) as step:
        made = simulate(settings, on_day=lambda day: step(f"day {day} of {days}", day))
    try:
        write(made, out)
    except OSError as error:
        raise TableError(f"{out}: cannot be written: {error.strerror or error}") from error
    frauds = int(made["is_fraud"].to_numpy().sum())
    result = {"file": str(out), "rows": made.num_rows, "frauds": frauds}
    if json:
        print_json(result)
    else:
        note(f"{out}: {made.num_rows:,} transactions, {frauds:,} of them frauds")


def train(
    data: Annotated[str, typer.Option(help="Parquet or CSV file, rows in time order.")],
    dataset: Annotated[str, typer.Option(help="A shipped description's name, or a YAML file.")],
    out: Annotated[str, typer.Option(help="Where the bundle goes: a path or a URI.")],
    since: Since = None,
    until: Until = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and data, same bytes.")] = 0,
    search: Annotated[
        int, typer.Option(min=0, help="Parameter sets to try beside the default.")
    ] = 0,
    profiles: Annotated[
        bool, typer.Option(help="Put the profiles at the table's end into the bundle.")
    ] = True,
    json: JsonFlag = False,
) -> None:
    """Train both models on a table and write a bundle.

    Rows before --from are not trained on, but profiles know them.

    Example: sentinel train --data transactions.parquet --dataset transactions --out bundles/first
    """
    # Read when XGBoost is imported: threads that wait for each other sleep instead of spinning,
    # which on a busy machine took five times the processor time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from sentinel.dataset import load_description
    from sentinel.table import read_table
    from training.fit import Options
    from training.pipeline import train as train_bundle

    description = load_description(dataset)
    with progress("reading the table") as step:
        read = read_table(data, description, since, until)
        trained = train_bundle(
            read, out, Options(seed=seed, search=search, profiles=profiles, on_step=step)
        )
    quality = trained.manifest.quality
    if json:
        print_json(
            {
                "bundle": trained.uri,
                "model_version": trained.model_version,
                "rows": len(read),
                "frauds": read.frauds,
                "quality": quality,
            }
        )
        return
    note(f"{out}: model version {trained.model_version[:12]}, {len(read):,} rows")
    if quality["measured"]:
        table("Backtest, 95% intervals", _figures(quality["together"]))
    else:
        note(f"quality not measured: {quality['reason']}")


def evaluate(
    bundle: Annotated[str, typer.Option(help="Path or URI of a bundle.")],
    data: Annotated[str, typer.Option(help="Labelled Parquet or CSV file, rows in time order.")],
    since: Since = None,
    until: Until = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Labelled table that profiles start from, not the bundle's."
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Judge a bundle on labelled transactions, with 95% bootstrap intervals.

    Rows of the file before --from, and after what the bundle's profiles know, feed the profiles.

    Example: sentinel evaluate --bundle bundles/first --data later.parquet --json
    """
    from sentinel.bundle import open_bundle
    from sentinel.history import COLD, FILE, history_of, table_features
    from sentinel.table import read_table
    from training.judge import judge_rows

    opened = open_bundle(bundle)
    judge, lanes = opened.judge(), opened.lanes(threads=os.cpu_count() or 1)
    with progress("reading the table") as step:
        read = read_table(data, judge.description, since, until)
        step("loading the profiles")
        known = history_of(opened, history, labels_come=False)
        step("scoring")
        features, known = table_features(read, known)
        judged = judge_rows(judge, lanes, read.transactions, features, read.labels)
        step("resampling")
        quality = judged.quality()
        lane_figures = judged.lanes(resamples=200) if not json else {}
    if json:
        profiles = {} if known is None else {"profiles": known.source}
        print_json({**quality.as_dict(), "model_version": opened.digest, **profiles})
        return
    if known is not None and known.source in (COLD, FILE):
        note(f"profiles: {known.source}. {_WHY[known.source]}")
    table(f"{len(read):,} rows, {read.frauds:,} frauds, 95% intervals", _figures(quality.as_dict()))
    for name, figures in lane_figures.items():
        table(f"{name} alone", _figures(figures))
    note(
        "decisions: "
        + ", ".join(
            f"{name} {count['rows']:,} ({count['frauds']:,} frauds)"
            for name, count in judged.decisions().items()
        )
    )


def recalibrate(
    bundle: Annotated[str, typer.Option(help="Path or URI of a bundle.")],
    data: Annotated[str, typer.Option(help="Labelled Parquet or CSV file, rows in time order.")],
    out: Annotated[str, typer.Option(help="Where the new bundle goes: a path or a URI.")],
    since: Since = None,
    until: Until = None,
    json: JsonFlag = False,
) -> None:
    """Hold the novelty lane against the latest legitimate rows; nothing else of a bundle changes.

    Rows younger than the label delay are left out: frauds among them are not known yet.

    Example: sentinel recalibrate --bundle bundles/first --data later.parquet --out bundles/second
    """
    from sentinel.bundle import open_bundle
    from sentinel.table import read_table
    from training.recalibrate import recalibrate as move_window

    opened = open_bundle(bundle)
    with progress("reading the table") as step:
        read = read_table(data, opened.manifest.description, since, until, both_kinds=False)
        step("moving the novelty window")
        moved = move_window(opened, read, out)
    if json:
        print_json({"bundle": out, **asdict(moved)})
    else:
        note(f"{out}: model version {moved.model_version[:12]}, a window of {moved.rows:,} rows")


_WHY = {
    "cold": "Nothing came before the first of these rows",
    "file": "The bundle's profiles end after these rows begin: they rest on the file's own past",
}


def _figures(quality: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of figure, value and interval."""
    return [
        (name, f"{figure['value']:.4f}", f"{figure['low']:.4f} to {figure['high']:.4f}")
        for name, figure in quality.items()
        if isinstance(figure, dict)
    ]
