"""What ran, then what was NOT RUN and why, a row each: the last lines of a suite."""

from pathlib import Path

import pytest


def tell_rows(reporter: pytest.TerminalReporter) -> None:
    """Writes a line for each test that ran, failed or did not run."""
    for outcome in ("passed", "failed", "error"):
        for report in reporter.getreports(outcome):
            if outcome == "error" or report.when == "call":
                reporter.write_line(
                    f"{'ran' if outcome == 'passed' else outcome.upper()}: {_row(report)}"
                )
    for report in reporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        reporter.write_line(f"NOT RUN: {_row(report)} ({str(reason).removeprefix('Skipped: ')})")


def _row(report: pytest.TestReport) -> str:
    file, _, name = report.nodeid.partition("::")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{Path(file).stem.removeprefix('test_')}: {words}"
