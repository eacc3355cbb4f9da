"""Bodies that are never sent twice, and who sends them."""

import shutil

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response

from loadtest.payments import payments
from loadtest.templates import (
    MARKS,
    Fill,
    Slot,
    Template,
    Traffic,
    arrow_template,
    json_template,
    run_numbers,
    single_templates,
)
from loadtest.wrk import SPARE, run_wrk
from sentinel.answers import ARROW, JSON
from sentinel.dataset import load_description
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.transactions import Transactions
from tests.loadtest.small_service import served

DESCRIPTION = load_description("transactions")
FEW = payments(100, 5)
MOMENT = 1_533_117_601.5
"""1 August 2018, 10:00:01.5, in seconds since 1970."""

MAKERS = [json_template, arrow_template]
ONE_OF_EACH = [*single_templates(FEW)[:1], json_template(FEW), arrow_template(FEW)]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on PATH")


def read(body: bytes) -> Transactions:
    """What the product makes of a body; every row must be a good one."""
    if body[:1] == b"{":
        return JsonParser(DESCRIPTION).one(body)
    if body[:1] == b"[":
        return JsonParser(DESCRIPTION).many(body).all_or_raise()
    return ArrowParser(DESCRIPTION).stream(body).all_or_raise()


def times_of(transactions: Transactions) -> np.ndarray:
    """(n,) seconds since 1970."""
    assert transactions.times is not None
    return transactions.times / 1e6


def test_a_single_transaction_gets_its_id_and_its_second_and_keeps_the_rest() -> None:
    template = single_templates(FEW)[3]
    sent = read(template.filled(7, MOMENT))
    assert sent.ids.to_pylist() == ["000000007000"]
    assert times_of(sent).tolist() == [1_533_117_601]
    assert sent.numbers[0] == FEW.numbers[3]
    for name, column in FEW.entities.items():
        assert sent.entities[name][0] == column[3]


@pytest.mark.parametrize("make", MAKERS)
def test_a_batch_has_an_id_for_each_row_and_rises_in_time(make: type) -> None:
    sent = read(make(FEW).filled(12, MOMENT))
    assert sent.ids.to_pylist() == [f"000000012{row:03}" for row in range(100)]
    times = times_of(sent)
    assert (np.diff(times) > 0).all()
    assert MOMENT - 4295 <= times[0] <= MOMENT
    assert times[-1] - times[0] < 4295
    assert (sent.numbers == FEW.numbers).all()
    assert sent.entities == dict(FEW.entities)


@pytest.mark.parametrize("make", MAKERS)
def test_batches_that_follow_each_other_at_the_pace_do_not_overlap_in_time(make: type) -> None:
    template = make(payments(1000, 5))
    traffic = Traffic(run_numbers(), MOMENT, pace=10)
    first = traffic.next_run(1000)
    bodies = (template.filled(at, first.seconds + at * first.step) for at in range(3))
    times = np.concatenate([times_of(read(body)) for body in bodies])
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("template", ONE_OF_EACH)
def test_every_filled_body_is_as_long_as_any_other(template: Template) -> None:
    lengths = {
        len(template.filled(number, seconds))
        for number in (0, 1, 999_999_999)
        for seconds in (0, MOMENT, 4e9)
    }
    assert len(lengths) == 1


def test_a_body_that_holds_a_mark_by_chance_is_refused() -> None:
    good = MARKS[Slot.NUMBER] + b"000" + MARKS[Slot.SECOND]
    assert Template.of(good, 1).rows == 1
    for bad in (good + MARKS[Slot.WORD], good + MARKS[Slot.NUMBER], MARKS[Slot.NUMBER], b""):
        with pytest.raises(ValueError, match="marks for 1 rows"):
            Template.of(bad, 1)


def test_no_two_runs_use_an_id_twice_and_event_time_goes_on() -> None:
    numbers = run_numbers()
    one, other = Traffic(numbers, 100.0, 2.0), Traffic(numbers, 100.0, 2.0)
    runs = []
    for traffic, rows, requests in ((one, 1, 50_000), (other, 1, 9), (one, 1000, 40), (one, 1, 1)):
        fill = traffic.next_run(rows)
        traffic.ran(fill, requests)
        runs.append((fill, requests))
    used = [range(fill.number, fill.number + requests + 1) for fill, requests in runs]
    assert len({number for each in used for number in each}) == sum(map(len, used))
    assert [fill.seconds for fill, _ in runs] == [100, 100, 100_100, 180_100]
    assert [fill.step for fill, _ in runs] == [2, 2, 2000, 2]


@needs_wrk
@pytest.mark.parametrize(
    ("templates", "path", "kind"),
    [
        (single_templates(FEW)[:3], "/predict", JSON),
        ([json_template(FEW), json_template(FEW.take(slice(0, 9)))], "/predict/batch", JSON),
        ([arrow_template(FEW)], "/predict/batch", ARROW),
        ([Template.fixed(b'{"transaction_id": "1"}')], "/predict", JSON),
    ],
    ids=["single", "json", "arrow", "fixed"],
)
def test_wrk_sends_what_the_templates_say(templates: list[Template], path: str, kind: str) -> None:
    came: list[bytes] = []

    async def answer(request: Request, body: bytes) -> Response:
        came.append(body)
        return Response(b"{}")

    fill = Fill(5_000_000, MOMENT, 1234.5)
    with served(DESCRIPTION, answer) as service:
        measured = run_wrk(service.url, path, templates, kind, connections=2, seconds=1, fill=fill)
    most = measured.requests + 2 + SPARE
    assert measured.errors == 0
    assert 0 < len(came) <= most
    possible = {
        templates[(at - 1) % len(templates)].filled(fill.number + at, fill.seconds + at * fill.step)
        for at in range(1, most + 1)
    }
    assert set(came) <= possible
    if templates[0].rows:
        assert len(set(came)) == len(came)
