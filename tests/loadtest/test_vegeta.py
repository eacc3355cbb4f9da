"""What vegeta wrote is read: accepted and refused answers apart, and rates as they were kept."""

import base64
import json
from typing import Any

import pytest

from loadtest.overload import Overload, figures_of, open_loop_table
from loadtest.vegeta import OpenLoop, quantile, read_hits, summary, target

RETRY = {"Retry-After": ["1"], "Content-Type": ["application/problem+json"]}


def line(at: float, code: int, milliseconds: float, headers: Any = None) -> bytes:
    """A line of ``vegeta encode -to=json``, sent ``at`` seconds after a full minute."""
    stamp = f"2026-11-24T13:51:{at:012.9f}Z"
    latency = round(1e6 * milliseconds)
    hit = {"attack": "", "seq": 0, "code": code, "timestamp": stamp, "latency": latency}
    error = "" if code else 'Post "http://127.0.0.1:9/x": dial tcp: connect: connection refused'
    return json.dumps(hit | {"error": error, "body": None, "headers": headers}).encode()


def read(lines: list[bytes], asked: float = 100) -> OpenLoop:
    return summary(read_hits(lines), asked, connections=32)


def test_rates_are_those_of_the_time_in_which_requests_were_sent() -> None:
    found = read([line(at / 50, 200, 4) for at in range(101)])
    assert found.asked_per_s == 100
    assert found.offered_per_s == pytest.approx(50, rel=0.02)
    assert found.accepted_per_s == pytest.approx(50, rel=0.02)
    assert (found.refused, found.errors, found.connections) == (0, 0, 32)


def test_answers_that_come_after_the_sending_has_ended_are_not_of_its_rate() -> None:
    found = read([line(at / 50, 200, 1_000) for at in range(101)])
    assert found.offered_per_s == pytest.approx(50, rel=0.02)
    assert found.accepted_per_s == pytest.approx(25, rel=0.05)


def test_percentiles_of_accepted_answers_leave_refusals_and_errors_out() -> None:
    lines = [line(at / 100, 200, 1 + at) for at in range(100)]
    lines += [line(at / 100, 503, 0.5, RETRY) for at in range(300)]
    lines += [line(1, 0, 30_000), line(2, 500, 9)]
    found = read(lines)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (51, 96, 100)
    assert found.refused_p95_ms == 0.5
    assert (found.refused, found.refused_with_retry_after, found.errors) == (300, 300, 2)
    assert found.error_kinds == {"connection refused": 1, "500": 1}


def test_a_refusal_without_retry_after_is_counted_apart() -> None:
    found = read([line(0, 503, 1, RETRY), line(1, 503, 1, {"Date": ["x"]}), line(2, 503, 1)])
    assert (found.refused, found.refused_with_retry_after) == (3, 1)
    assert (found.p50_ms, found.p95_ms) == (None, None)


def test_times_with_another_offset_are_read() -> None:
    lines = [line(0, 200, 1), line(1, 200, 1)]
    moved = [each.replace(b"T13:", b"T14:").replace(b"Z", b"+01:00") for each in lines]
    assert read(moved) == read(lines)


def test_a_percentile_of_none_is_none_and_of_one_is_that_one() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3_000_000], 0.99) == 3


def test_a_target_carries_its_body_whole() -> None:
    made = json.loads(target("http://127.0.0.1:1/predict", b'{"a": "\xc3\xa9"}\n', "a/b"))
    assert made["method"] == "POST"
    assert made["header"] == {"Content-Type": ["a/b"]}
    assert base64.b64decode(made["body"]) == b'{"a": "\xc3\xa9"}\n'


def overloaded(load: OpenLoop) -> Overload:
    return Overload("sentinel", 3, 100.0, load, 0.5, router_before_mb=200, router_after_mb=205)


def test_an_overload_is_held_against_peak_latency_refusals_and_memory() -> None:
    load = read([line(0, 200, 80), line(1, 503, 1, RETRY), line(1, 503, 1), line(2, 504, 1)])
    assert figures_of(overloaded(load)) == {
        "overload, offered/peak": 0.02,
        "overload, accepted/peak": 0.5,
        "overload, p95 ms of the accepted": 80,
        "overload, neither accepted nor 503": 1,
        "overload, share of the 503 with Retry-After": 0.5,
        "overload, router memory after/before": 1.025,
    }
    assert figures_of(None) == {}


def test_an_overload_that_refused_nobody_says_nothing_of_retry_after() -> None:
    figures = figures_of(overloaded(read([line(0, 200, 80), line(1, 200, 80)])))
    assert figures["overload, share of the 503 with Retry-After"] is None


def test_the_overload_stands_below_the_constant_rates() -> None:
    load = read([line(0, 200, 80), line(1, 503, 1, RETRY)])
    columns, rows = open_loop_table({"limit": load}, overloaded(load))
    assert [row[0] for row in rows] == ["limit", "sentinel, 3 times its peak"]
    assert {len(row) for row in rows} == {len(columns)}
