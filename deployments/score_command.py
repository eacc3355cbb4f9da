"""``sentinel score``."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.ray_environment import PRIVATE
from sentinel.console import Pace, note, print_json, progress
from sentinel.errors import SentinelError, UsageError

if TYPE_CHECKING:
    from deployments.score_folder import ScoreFolder
    from sentinel.bundle import Bundle
    from sentinel.input_files import InputFile, Piece


class Stopped(SentinelError):
    """The run was told to stop; says how to go on."""


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the ``sentinel`` command line."""
    app.command()(score)


def score(
    bundle: Annotated[str, typer.Option(metavar="URI", help="Path or URI of the bundle.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FILES",
            help="Parquet or CSV file, folder or glob, or a URI; may be given again.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the answers.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILES]...", help="More of --data.")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Labelled table that profiles start from, not the bundle's."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to join, whose nodes share these files and DIR; else one of its own."
        ),
    ] = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of each file of answers.")] = 131_072,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds after which the profiles are saved again.")
    ] = 60.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Score files of any size: a row of answers for each row, in the same order.

    Rows are judged in time order, each by what the profiles know by then. Killed at any moment,
    the same command goes on from what is complete.

    Example: sentinel score --bundle bundles/first --data 'july/*.parquet' --out answers
    """
    result = _run(
        bundle,
        [*data, *(more or ())],
        Settings(out, history, address, part_rows, save_every),
    )
    if json:
        print_json(result)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one run; see ``score``."""

    out: Path
    history: str | None
    address: str | None
    part_rows: int
    save_every: float


def _run(bundle: str, places: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Everything that can be wrong without Ray is found before it starts, and before anything is
    written."""
    from deployments.score_folder import RunKey, ScoreFolder
    from sentinel.bundle import open_bundle
    from sentinel.input_files import check_files, find_files, fingerprint

    opened = open_bundle(bundle)
    files = find_files(places)
    _check_apart(files, settings.out)
    history = "" if settings.history is None else fingerprint(find_files([settings.history]))
    pieces = check_files(files, opened.manifest.description)
    key = RunKey(opened.digest, fingerprint(files), history, settings.part_rows)
    with ScoreFolder(settings.out, key) as folder:
        if folder.result is None:
            folder.finish(_score(opened, pieces, folder, settings))
            _tell(folder.result or {})
        else:
            note(f"{settings.out}: complete already; nothing was done")
        return folder.result or {}


def _check_apart(files: "Sequence[InputFile]", out: Path) -> None:
    for file in files:
        if Path(file.path).is_relative_to(out.absolute()):
            raise UsageError(f"--out: {out} holds {file.path}, which --data names")


def _score(
    opened: "Bundle", pieces: "Sequence[Piece]", folder: "ScoreFolder", settings: Settings
) -> dict[str, Any]:
    start = time.monotonic()
    if settings.address is None:
        for name, value in {**PRIVATE, "OMP_NUM_THREADS": "1"}.items():
            os.environ.setdefault(name, value)
    # Ray reads the environment when it is imported.
    from deployments.offline import OfflineRun, ScoreOptions
    from deployments.ray_session import ray_session
    from sentinel.history import COLD

    options = ScoreOptions(settings.history, settings.part_rows, settings.save_every)
    with (
        stopped_by_signals(f"{folder.path}: stopped") as take_signals,
        ExitStack() as running,
    ):
        with progress("starting Ray") as step:
            running.enter_context(ray_session(settings.address, take_signals))
            run = OfflineRun(opened, pieces, folder, options)
            step("loading the profiles, and looking through the rows")
            rows = run.prepare()
        with progress("scoring", total=rows) as step:
            scored = run(Pace(step, rows, "rows"))
        if scored.profiles == COLD:
            note("profiles: cold. The bundle has none and --history names no table")
        errors = folder.errors()
    seconds = time.monotonic() - start
    return {
        "rows": scored.rows,
        "scored": scored.rows - errors,
        "errors": errors,
        "seconds": round(seconds, 3),
        "rows_per_s": round(scored.fresh / seconds, 1),
        "bundle": opened.uri,
        "model_version": opened.digest,
        "profiles": scored.profiles,
        "out": str(folder.path),
    }


def _tell(result: dict[str, Any]) -> None:
    note(
        f"{result['out']}: {result['rows']:,} rows, {result['errors']:,} of them refused, "
        f"in {result['seconds']:,.1f} s"
    )


@contextmanager
def stopped_by_signals(said: str) -> Iterator[Callable[[], None]]:
    """SIGINT, SIGTERM and SIGHUP end the block as an exception would; later ones do nothing, since
    what ends the run must not be ended itself.

    Yields what takes the signals again, after Ray has taken them.

    :raises Stopped: one came.
    """
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise KeyboardInterrupt

    def take() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)

    take()
    try:
        yield take
    except KeyboardInterrupt as error:
        raise Stopped(f"{said}; the same command goes on from what is complete") from error
