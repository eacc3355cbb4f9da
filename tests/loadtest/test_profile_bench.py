"""What the measurement of profiles reports, and what it is measured with."""

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtest.bench_bundle import alone_description, write_pair
from loadtest.bench_command import whole_result
from loadtest.cells import (
    NOT_ASKED,
    SHAPES,
    SINGLE_64,
    ServeBench,
    ratio_table,
    serve_table,
    together,
)
from loadtest.contenders import NAMES
from loadtest.payments import CUSTOMERS, PACE, TERMINALS, batches, frauds, payments
from loadtest.profile_bench import MEMORY, REDIS, Cells, Outcome, Phase, bodies_of, report
from loadtest.profile_core import handbook_description, make_features, measure_profiles
from loadtest.redis_server import NO_REDIS
from loadtest.wrk import Measured
from sentinel.bundle import open_bundle
from sentinel.dataset import load_description
from sentinel.features import feature_set
from sentinel.history import history_of


def measured(requests: int) -> Measured:
    return Measured(requests, 1_000_000, p50=1000, p95=2000, p99=3000, errors=0)


def outcome(phase: Phase, note: str = "") -> Outcome:
    cells: Cells = {}
    for shape in SHAPES:
        cells[phase.stateless, shape] = [measured(n) for n in (90, 100, 200)]
        cells[phase.profiles, shape] = [measured(n) for n in (60, 75, 80)]
    return Outcome(phase, cells, degraded=3, note=note)


def test_without_redis_its_row_is_null_with_the_reason_and_the_rest_is_there() -> None:
    bench = report([outcome(MEMORY)], {"sentinel-profiles-redis": NO_REDIS})
    row = bench.contenders["sentinel-profiles"]
    assert row is not None
    assert (row.shape, row.connections, row.requests_per_s) == ("single", 64, 75)
    assert bench.contenders["sentinel-profiles-redis"] is None
    assert bench.reasons == {"sentinel-profiles-redis": NO_REDIS}
    assert {(r.contender, r.shape, r.connections) for r in bench.rows} == {
        (name, shape.name, shape.connections)
        for name in ("sentinel-profiles", "sentinel-stateless")
        for shape in SHAPES
        if (name, shape) != ("sentinel-profiles", SINGLE_64)
    }
    assert bench.degraded == {"sentinel-profiles": 3}


def test_both_phases_are_held_to_their_own_goal() -> None:
    bench = report([outcome(MEMORY), outcome(REDIS, "redis-server 7")], {})
    assert set(bench.ratios.values()) == {0.75}
    assert len(bench.ratios) == 2 * len(SHAPES)
    assert bench.goals == {
        "sentinel-profiles/sentinel-stateless, single, 64 connections": 0.7,
        "sentinel-profiles-redis/sentinel-stateless-redis, single, 64 connections": 0.5,
    }
    assert set(bench.goals) < set(bench.ratios)
    assert bench.notes == {"sentinel-profiles-redis": "redis-server 7"}
    columns, rows = ratio_table(bench)
    assert columns == ["ratio", "requests/s", "goal"]
    assert [row[2] for row in rows].count("") == len(rows) - 2
    assert len(serve_table(bench)[1]) == 4 * len(SHAPES)


def test_the_whole_result_names_every_contender_once() -> None:
    profiles = report([outcome(MEMORY)], {"sentinel-profiles-redis": NO_REDIS})
    limit = ServeBench({"limit": profiles.rows[0]}, {}, profiles.rows[:1], {"a/b": 1.0})
    found = together([limit, profiles])
    assert tuple(found.contenders) == NAMES
    assert set(found.reasons) == {name for name, row in found.contenders.items() if row is None}
    assert found.reasons["kafka"] == NOT_ASKED
    assert found.reasons["mlserver"] == NOT_ASKED
    assert found.reasons["sentinel-profiles-redis"] == NO_REDIS
    assert together([profiles]).reasons["limit"] == NOT_ASKED
    content = whole_result([{"core": [], "profiles": []}, msgspec.to_builtins(profiles)])
    assert {"core", "profiles", "contenders", "reasons", "rows", "ratios"} <= set(content)
    assert "contenders" not in whole_result([{"core": [], "profiles": []}])


def test_payments_are_in_time_order_at_their_pace_and_spread_over_all_entities() -> None:
    table = payments(100_000, 1, start=0)
    assert table.times is not None
    assert (np.diff(table.times) >= 0).all()
    assert table.times[-1] / 1e6 == pytest.approx(100_000 * PACE, rel=0.01)
    assert len(table.entities["customer_id"].unique()) > 0.9 * CUSTOMERS
    assert len(table.entities["terminal_id"].unique()) > 0.9 * TERMINALS
    assert 0.005 < frauds(100_000, 1).mean() < 0.02
    parts = list(batches(table, 30_000))
    assert [len(part) for part in parts] == [30_000] * 3
    assert all(a.ids[-1] != b.ids[0] for a, b in pairwise(parts))


def test_every_shape_has_bodies_of_its_rows_with_a_number_and_a_time_for_each() -> None:
    for shape in SHAPES:
        assert {template.rows for template in bodies_of(shape)} == {shape.rows}


def test_the_pair_of_bundles_reads_the_same_fields_and_one_has_filled_profiles(
    tmp_path: Path,
) -> None:
    pair = write_pair(str(tmp_path), payments(5_000, 1), frauds(5_000, 2), trees=3)
    stateless, profiles = (open_bundle(place) for place, _ in (pair.stateless, pair.profiles))
    assert [stateless.digest, profiles.digest] == [pair.stateless[1], pair.profiles[1]]
    assert stateless.manifest.description.fields == profiles.manifest.description.fields
    assert profiles.manifest.description == load_description("transactions")
    assert history_of(stateless) is None
    history = history_of(profiles)
    assert history is not None
    assert history.source == "bundle"
    assert len(history.store.profiles.log("customer_id")) > 0.5 * CUSTOMERS
    for bundle in (stateless, profiles):
        assert [entry.trees for entry in bundle.manifest.models.values()] == [3, 100]
        bundle.lanes()


def test_the_handbooks_features_are_its_fifteen() -> None:
    features = feature_set(handbook_description())
    assert len(features.names) == 15
    assert features.names[:3] == ("amount", "weekend", "night")
    assert features.names[3] == "customer_id_count_1d"
    assert features.names[-1] == "terminal_id_known_fraud_rate_30d"
    made = make_features(features, payments(500, 1), frauds(500, 1))
    assert made.shape == (500, 15)
    alone = feature_set(alone_description(load_description("transactions")))
    assert alone.plan is None


def test_the_core_is_timed_with_a_table_and_with_batches() -> None:
    cells = measure_profiles(rows=2000, repeats=1)
    assert [cell.goal for cell in cells] == [500_000, None, 50_000, None]
    assert all(cell.rows_per_s > 0 for cell in cells)
