"""Where a replay begins and ends, as a person writes it."""

import pytest

from kafka_ingest.offset_range import Bound, read_bound
from sentinel.errors import UsageError


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1500", Bound("--from", every=1500)),
        ("0:7", Bound("--from", each={0: 7})),
        ("0:7,12:90", Bound("--from", each={0: 7, 12: 90})),
        ("2018-08-01", Bound("--from", at_ms=1_533_081_600_000)),
        ("2018-08-01T10:00:00.5Z", Bound("--from", at_ms=1_533_117_600_500)),
        ("2018-08-01T10:00:00+02:00", Bound("--from", at_ms=1_533_110_400_000)),
    ],
)
def test_a_bound_is_a_time_or_offsets(text: str, bound: Bound) -> None:
    assert read_bound("--from", text) == bound


@pytest.mark.parametrize("text", ["", "-1", "1.5", "yesterday", "0:7,", "0:7,x:1", "2018-13-01"])
def test_anything_else_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match=r"--from is .* expected a time such as"):
        read_bound("--from", text)
