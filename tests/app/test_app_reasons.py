"""Answers over HTTP name what raised a review or block, in JSON and in Arrow, and keep it."""

import io
from typing import Any

import msgspec
import pyarrow as pa

from sentinel.answers import ARROW
from sentinel.bundle import open_bundle
from sentinel.history import history_of
from sentinel.parse_json import JsonParser
from sentinel.scoring import score_offline
from tests.app.conftest import Run, Scene, numbered

Row = dict[str, Any]

LARGE = 5_000.0


def flagged(row: Row, number: int) -> dict[str, Any]:
    """Far more than anybody ever paid."""
    return numbered(row, number, amount=LARGE)


def offline(bundle: str, row: Row) -> list[str]:
    opened = open_bundle(bundle)
    judge, history = opened.judge(), history_of(opened)
    assert history is not None
    one = JsonParser(judge.description).one(msgspec.json.encode(row))
    return list(score_offline(judge, opened.lanes(), one, history.note(one)).reasons[0])


def test_a_flagged_transaction_is_told_by_its_features(
    run_profiles: Run, row: Row, transactions_bundle: str
) -> None:
    async def scene(app: Scene) -> None:
        one = flagged(row, 1)
        answer = (await app.predict(one)).json()
        assert answer["decision"] != "approve"
        assert answer["reasons"] == offline(transactions_bundle, one)
        assert any("amount" in reason for reason in answer["reasons"][1:])
        again = (await app.predict(one)).json()
        assert again["reasons"] == answer["reasons"], "the stored answer has them too"

    run_profiles(scene)


def test_a_batch_in_arrow_has_the_same_reasons(
    run_profiles: Run, row: Row, transactions_bundle: str
) -> None:
    async def scene(app: Scene) -> None:
        rows = [flagged(row, 2), numbered(row, 3)]
        sink = io.BytesIO()
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        got = await app.client.post(
            "/predict/batch", content=sink.getvalue(), headers={"content-type": ARROW}
        )
        answers = pa.ipc.open_stream(got.content).read_all().to_pylist()
        assert answers[0]["reasons"] == offline(transactions_bundle, rows[0])
        for answer in answers:
            assert bool(answer["reasons"]) == (answer["decision"] != "approve")

    run_profiles(scene)
