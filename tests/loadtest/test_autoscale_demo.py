"""What the demonstration makes of its runs: a table, a picture, and a config for each policy."""

from typing import Any

from loadtest.autoscale_demo import DEFAULT, OURS, PLANS, Runs, table
from loadtest.autoscale_picture import spike_plot
from loadtest.scale_run import STAGES, Plan, Run, Second, config_for


def second(at: float, count: int, p95_ms: float | None) -> Second:
    load: dict[str, Any] = {"p95_ms": p95_ms, "transactions": 100, "at": at, "seconds": at}
    gauges = {"waiting_rows": 3.0, "flying_rows": 5.0}
    return Second(at, dict.fromkeys(STAGES, count), gauges, load)


def spike(*late: float | None) -> Run:
    seconds = [second(at, 1 + at // 2, p95) for at, p95 in enumerate(late)]
    after = Second(len(late), dict.fromkeys(STAGES, 1), {}, None)
    result = {"requests": 10, "transactions_per_s": 8.0, "p95_ms": 60.0, "failed": 1, "shed": 1}
    return Run(Plan(policy={}), [*seconds, after], result, [], (0.1, 0.2))


RUNS = Runs({OURS: spike(10, 60, None), DEFAULT: spike(70, 70, 70)})


def test_a_second_without_an_answer_is_late_and_what_comes_after_the_load_costs_nothing() -> None:
    run = RUNS.by_policy[OURS]
    assert run.late_seconds(50) == 2
    assert run.replica_seconds == 3 * (1 + 1 + 2)


def test_a_second_in_which_nobody_asked_is_not_late() -> None:
    assert spike(None, 10, None, None, 70, None, 20).late_seconds(50) == 3


def test_the_table_has_a_column_for_each_policy() -> None:
    columns, rows = table(RUNS)
    assert columns == ["", OURS, DEFAULT]
    assert all(len(row) == 3 for row in rows)
    assert rows[-1] == ["cores busy with others before and after", "10%, 20%", "10%, 20%"]
    assert rows[0] == ["seconds with p95 over 50 ms", "2", "3"]


def test_the_picture_is_drawn_also_where_nothing_was_answered_and_the_same_each_time() -> None:
    drawn = spike_plot(RUNS.by_policy)
    assert b"transactions/s" in drawn
    assert b"FraudRouter" in drawn
    assert spike_plot(RUNS.by_policy) == drawn


def test_serves_default_policy_is_serves_own_defaults_within_the_same_bounds() -> None:
    default = config_for(PLANS[DEFAULT], "bundle")["applications"][0]
    assert "autoscaling_policy" not in default
    bounds = {"min_replicas": 1, "max_replicas": PLANS[DEFAULT].most}
    sized = [d for d in default["deployments"] if d["name"] in STAGES]
    assert [d["autoscaling_config"] for d in sized] == [bounds] * len(STAGES)
    assert PLANS[DEFAULT].most == PLANS[OURS].most
