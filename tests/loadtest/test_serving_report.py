"""What the turns came to is told by name: cells, ratios, goals, and reasons for what is missing."""

import msgspec
import pytest

from loadtest.bench_command import markdown
from loadtest.cells import ARROW_1000, JSON_1000, SINGLE_1, SINGLE_64, SINGLE_128, Shape
from loadtest.contenders import RECIPES
from loadtest.dialects import FIELDS_BY_NAME, TENSORS
from loadtest.goals import BEST_RIVAL
from loadtest.replicas import Core, Memory, Restart, extrapolated, seconds_to_ready
from loadtest.serving_bodies import transactions
from loadtest.serving_plot import serving_plot
from loadtest.serving_report import Found, report, serving_tables
from loadtest.wrk import Measured

ALL = (SINGLE_1, SINGLE_64, SINGLE_128, JSON_1000, ARROW_1000)
RATES = {"limit": 10_000, "sentinel": 3_000, "litserve": 1_000, "mlserver": 1_200, "reference": 150}


def measured(requests: int, p95: int = 40_000) -> Measured:
    times = {"p50": 1_500, "p95": p95, "p99": 4_000}
    return Measured(requests, 1_000_000, **times, errors=0, processor=200 * requests)


def found(without: str = "") -> Found:
    cells: dict[tuple[str, Shape], list[Measured]] = {}
    for name, rate in RATES.items():
        for shape in ALL if name in ("limit", "sentinel") else (SINGLE_1, SINGLE_64):
            if name != without:
                each = max(1, rate // shape.rows)
                cells[name, shape] = [measured(each), measured(2 * each), measured(each // 2)]
    return Found(cells, {"sentinel-together": "did not come up"})


def test_every_contender_has_its_row_or_its_reason() -> None:
    bench = report(found())
    assert set(bench.contenders) == set(RECIPES)
    assert {name for name, row in bench.contenders.items() if row is None} == set(bench.reasons)
    row = bench.contenders["sentinel"]
    assert row is not None
    assert (row.requests_per_s, row.connections, row.cpu_us) == (3_000, 64, 200)
    assert len(bench.rows) == 2 * 4 + 3
    assert SINGLE_64.connections not in {r.connections for r in bench.rows}


def test_ratios_are_taken_where_both_were_measured_and_against_the_better_rival() -> None:
    ratios = report(found()).ratios
    assert ratios["sentinel/limit, single, 64 connections"] == 0.3
    assert ratios["sentinel/reference, single, 64 connections"] == 20
    assert ratios[f"sentinel/{BEST_RIVAL}, single, 64 connections"] == 2.5
    assert "sentinel/litserve, json-1000, 4 connections" not in ratios
    alone = report(found(without="mlserver")).ratios
    assert alone[f"sentinel/{BEST_RIVAL}, single, 64 connections"] == 3


def test_goals_are_held_against_the_same_figures_as_the_tables_show() -> None:
    bench = report(found())
    judged = {each.figure: each for each in bench.judged}
    assert judged["sentinel/limit, single, 64 connections"].reached
    assert judged["sentinel, single, 1 connections, p50 ms"].measured == 1.5
    assert judged["sentinel, single, 64 connections, p95 ms"].reached
    assert not judged["sentinel, json-1000, 4 connections, transactions/s"].reached
    assert judged["sentinel/sentinel-together, single, 64 connections"].reached is None
    assert judged["overload, accepted/peak"].reached is None
    assert set(bench.goals) < set(bench.ratios)


def test_a_restart_is_held_to_its_goal_only_where_serve_says_how_long_it_took() -> None:
    for said in (2.5, None):
        told = found()
        told.restart = Restart("XGBoost", killed_to_ready_s=4, start_to_ready_s=said)
        judged = {each.figure: each for each in report(told).judged}
        assert judged["replica, start to ready, s"].measured == said


def test_a_contender_that_failed_is_dropped_whole_with_its_reason() -> None:
    told = found()
    told.drop("litserve", "it answers something else")
    bench = report(told)
    assert bench.contenders["litserve"] is None
    assert bench.reasons["litserve"] == "it answers something else"
    assert all(row.contender != "litserve" for row in bench.rows)


def test_the_peak_is_the_better_of_both_loads_in_the_last_turn() -> None:
    told = found()
    told.cells["sentinel", SINGLE_128] = [measured(100), measured(5_000)]
    assert told.peak("sentinel") == 5_000
    assert told.peak("reference") == 75


def test_cores_for_a_rate_are_an_extrapolation_from_each_measurement() -> None:
    cores = [
        Core(1, "on a core of its own", 2_000, 2_000),
        Core(2, "on the same cores", 3000, 1500),
    ]
    assert extrapolated(cores) == {"by 1 measured": 5.0, "by 2 measured": 6.7}
    told = found()
    told.cores = cores[:1]
    bench = report(told)
    assert next(core.load_generator for core in bench.cores) == "on a core of its own"
    titles = {title: columns for title, (columns, _) in serving_tables(bench)}
    assert titles["Cores"][-1] == "cores for 10,000 requests/s (extrapolation)"


def test_all_tables_are_there_even_of_what_was_not_measured() -> None:
    tables = serving_tables(report(found()))
    assert len(tables) == 6
    for _, (columns, rows) in tables:
        assert all(len(row) == len(columns) for row in rows)
        assert markdown(columns, rows).count("\n") == len(rows) + 1


def test_the_result_survives_being_written_and_read() -> None:
    told = found()
    told.memory = [Memory("FraudRouter", 300, 180)]
    bench = report(told)
    assert msgspec.json.decode(msgspec.json.encode(bench), type=type(bench)) == bench


def test_the_plot_shows_every_contender_and_is_the_same_twice() -> None:
    bench = report(found())
    plot = serving_plot(bench)
    assert plot == serving_plot(bench)
    for name in RATES:
        assert name.encode() in plot


LOG = """\
INFO controller 7 -- Starting Replica(id='a', deployment='XGBoost', app='sentinel').
INFO controller 7 -- Replica(id='a', deployment='XGBoost', app='sentinel') started successfully on \
node 'e2' after 8.3s (PID: 309). Replica constructor, reconfigure method took 3.1s.
"""


def test_serve_says_how_long_a_replica_took_by_its_process() -> None:
    assert seconds_to_ready(LOG, 309) == 8.3
    assert seconds_to_ready(LOG, 30) is None


def test_a_transaction_means_the_same_in_both_dialects() -> None:
    (row,) = transactions(1, 1)
    assert msgspec.json.decode(FIELDS_BY_NAME.encode(row)) == row
    sent = msgspec.json.decode(TENSORS.encode(row))
    (tensor,) = sent["inputs"]
    assert [sent["id"], *tensor["data"]] == list(row.values())
    assert tensor["shape"] == [1, len(row) - 1]


def test_tensors_of_an_answer_are_read_by_name() -> None:
    outputs = [{"name": "decision", "data": ["block"]}, {"name": "novelty_p", "data": [0.5]}]
    answer = TENSORS.decode(msgspec.json.encode({"id": "t1", "outputs": outputs}))
    assert answer == {"transaction_id": "t1", "decision": "block", "novelty_p": pytest.approx(0.5)}
