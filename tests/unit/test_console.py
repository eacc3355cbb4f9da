"""What commands tell a person while they work."""

from sentinel.console import Pace


def test_the_pace_leaves_out_what_an_earlier_run_did() -> None:
    told: list[tuple[str, int]] = []
    pace = Pace(lambda text, done: told.append((text, done)), 2_000, "rows")
    pace(1_000)
    pace(1_500)
    assert told[0] == ("1,000 of 2,000 rows", 1_000)
    assert told[1][0].startswith("1,500 of 2,000 rows, ")
    assert told[1][0].endswith(" rows/s")
