"""The table of faults: a row for each that a stream went through, with what it came to.

``SENTINEL_COUNTS=FILE`` adds the rows to that file; the account is closed either way.
"""

import os
from pathlib import Path

from tests.kafka.account import Account

HEAD = (
    "| what happened | records | decisions | dead letters | lost | doubled | aborted |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
)


def fault(what: str, found: Account, aborts: int | str = "") -> None:
    """Closes the account, and notes it.

    :raises AssertionError: a record has no decision and no dead letter, or more than one.
    """
    if (file := os.environ.get("SENTINEL_COUNTS")) is not None:
        path = Path(file)
        before = path.read_text() if path.exists() else HEAD
        lost, doubled = found.lost_and_doubled()
        cells = (len(found.records), len(found.decisions), len(found.dead), lost, doubled)
        shown = " | ".join(f"{cell:,}" for cell in cells)
        kept = [line for line in before.splitlines(True) if not line.startswith(f"| {what} |")]
        path.write_text("".join(kept) + f"| {what} | {shown} | {aborts} |\n")
    found.check()
