"""What the HTTP surface does with what meets, with what is too much, and with what goes wrong."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sentinel.answers import JSON
from serve_app import predict
from serve_app.api import RefusedBundle
from serve_app.keys import add_key
from serve_app.predict import INLINE_BYTES, THREADS
from tests.app.conftest import Run, Scene

Row = dict[str, Any]


def numbered(row: Row, number: int, **changes: Any) -> Row:
    return {**row, "transaction_id": f"t{number}", **changes}


async def until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.001)


def test_requests_that_meet_are_scored_in_one_call_and_each_has_its_own_answer(
    run: Run, row: Row
) -> None:
    async def scene(app: Scene) -> None:
        rows = [numbered(row, at, amount=10.0 * at) for at in range(40)]
        alone = [(await app.predict(one)).json() for one in rows]
        app.lanes.asked.clear()
        app.lanes.open.clear()
        first = asyncio.create_task(app.predict(rows[0]))
        await until(lambda: app.lanes.asked)
        others = [asyncio.create_task(app.predict(one)) for one in rows[1:]]
        await until(lambda: app.flights.queue.waiting_rows == 39)
        app.lanes.open.set()
        answers = await asyncio.gather(first, *others)
        assert app.lanes.asked == [1, 39]
        for answer, expected in zip(answers, alone, strict=True):
            got = answer.json()
            for name in ("fraud_probability", "anomaly_score", "novelty_p"):
                assert got.pop(name) == pytest.approx(expected.pop(name), abs=1e-6)
            assert {**got, "reasons": []} == {**expected, "reasons": []}

    run(scene, flights=1)


def test_a_bad_request_among_good_ones_is_refused_alone(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        bodies: list[Any] = [numbered(row, 0), numbered(row, 1, amount=-1), numbered(row, 2)]
        malformed = app.client.post("/predict", content=b"{", headers={"content-type": JSON})
        answers = await asyncio.gather(*(app.predict(body) for body in bodies), malformed)
        assert [answer.status_code for answer in answers] == [200, 422, 200, 400]
        assert answers[1].json()["field"] == "amount"
        assert [answers[at].json()["transaction_id"] for at in (0, 2)] == ["t0", "t2"]

    run(scene)


def test_a_batch_of_many_rows_lets_others_in_between(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        rows = [numbered(row, at) for at in range(200)]
        batch = asyncio.create_task(app.client.post("/predict/batch", json=rows))
        await until(lambda: app.lanes.asked)
        single = asyncio.create_task(app.predict(numbered(row, 999)))
        await until(lambda: app.flights.queue.waiting_rows)
        app.lanes.open.set()
        assert (await single).status_code == 200
        results = (await batch).json()["results"]
        assert [result["transaction_id"] for result in results] == [f"t{n}" for n in range(200)]
        assert max(app.lanes.asked) <= 50
        assert sum(app.lanes.asked) == 201

    run(scene, flight_rows=50, flights=1)


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({"waiting_requests": 1}, "requests"),
        ({"waiting_rows": 1}, "rows"),
        ({"queue_age_ms": 1}, "age"),
    ],
)
def test_more_than_may_wait_is_refused_at_once_and_may_be_sent_again(
    run: Run, row: Row, settings: dict[str, int], bound: str
) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        waiting = [asyncio.create_task(app.predict(numbered(row, 0)))]
        await until(lambda: app.lanes.asked)
        waiting.append(asyncio.create_task(app.predict(numbered(row, 1))))
        await until(lambda: app.flights.queue.waiting_rows)
        await asyncio.sleep(0.01)
        for path, body in (("/predict", row), ("/predict/batch", [row])):
            refused = await app.client.post(path, json=body)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["bound"] == bound
        app.lanes.open.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await app.predict(row)).status_code == 200

    run(scene, flights=1, **settings)


def test_the_bytes_of_all_bodies_are_bounded_and_given_back(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        first = asyncio.create_task(app.predict({**row, "note": "x" * 600}))
        await until(lambda: app.lanes.asked)
        assert app.bodies.held > 600
        refused = await app.predict({**row, "note": "x" * 600})
        assert (refused.status_code, refused.json()["bound"]) == (503, "bytes")
        app.lanes.open.set()
        assert (await first).status_code == 200
        assert app.bodies.held == 0
        assert (await app.predict({**row, "note": "x" * 600})).status_code == 200

    run(scene, body_bytes=1000)


def test_a_long_single_body_is_answered_like_a_short_one(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        long = await app.predict({**row, "note": "x" * (INLINE_BYTES + 1)})
        assert long.json() == (await app.predict(row)).json()

    run(scene)


async def parts(pause: float, *pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(pause)


@pytest.mark.parametrize("begun", [b"", b'{"transaction_id"'])
def test_a_body_that_does_not_come_is_a_408(run: Run, begun: bytes) -> None:
    async def scene(app: Scene) -> None:
        slow = parts(5, begun) if begun else parts(5, b"")
        answer = await app.client.post("/predict", content=slow, headers={"content-type": JSON})
        assert answer.status_code == 408
        assert answer.headers["connection"] == "close"
        assert f"{len(begun)} bytes came" in answer.json()["detail"]
        assert app.bodies.held == 0

    run(scene, body_seconds=0.05)


def test_a_body_that_comes_steadily_is_read_however_long_it_takes(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        body = json.dumps(row).encode()
        pieces = [body[at : at + 10] for at in range(0, len(body), 10)]
        answer = await app.client.post(
            "/predict", content=parts(0.03, *pieces), headers={"content-type": JSON}
        )
        assert answer.status_code == 200

    run(scene, body_seconds=0.2)


def test_bodies_that_take_long_to_read_keep_nobody_waiting(run: Run, row: Row) -> None:
    """A key given twice, among thousands of members: milliseconds each, in a thread."""

    async def scene(app: Scene) -> None:
        odd = json.dumps({**row, "a": [{}] * 5_000})[:-1].encode() + b', "a": 1}'
        post = {"content": odd, "headers": {"content-type": JSON}}
        asking = [asyncio.create_task(app.client.post("/predict", **post)) for _ in range(300)]
        await asyncio.sleep(0)
        longest = 0.0
        while not all(task.done() for task in asking):
            start = time.perf_counter()
            assert (await app.predict(row)).json()["degraded"] is False
            longest = max(longest, time.perf_counter() - start)
        assert {task.result().status_code for task in asking} == {200}
        whole = sum(task.result().elapsed.total_seconds() for task in asking[-1:])
        assert longest < whole / 2, "others are answered while they are read"

    run(scene, queue_age_ms=60_000)  # on a busy machine they wait, and none is refused


def test_what_a_client_that_has_gone_left_behind_counts_until_its_thread_has_ended(
    run: Run, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    begun: list[int] = []

    def slow(body: bytes) -> None:
        begun.append(len(body))
        may_end.wait(10)

    monkeypatch.setattr(predict, "check_json_size", slow)

    async def scene(app: Scene) -> None:
        body = json.dumps([numbered(row, at) for at in range(20)]).encode()
        post = {"content": body, "headers": {"content-type": JSON}}
        gone = [asyncio.create_task(app.client.post("/predict/batch", **post)) for _ in range(6)]
        await until(lambda: app.bodies.held == 6 * len(body) and len(begun) == THREADS)
        for task in gone:
            task.cancel()
        await until(lambda: app.bodies.held == THREADS * len(body))  # those that run, no others
        await asyncio.sleep(0.05)
        assert app.bodies.held == THREADS * len(body), "for as long as they run"
        may_end.set()
        await until(lambda: app.bodies.held == 0)
        assert begun == [len(body)] * THREADS
        assert await app.ingress.drain(1)

    run(scene)


def test_a_client_that_goes_is_dropped_from_the_queue(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        first = asyncio.create_task(app.predict(numbered(row, 0)))
        await until(lambda: app.lanes.asked)
        gone = [asyncio.create_task(app.predict(numbered(row, at))) for at in range(1, 6)]
        stays = asyncio.create_task(app.predict(numbered(row, 6)))
        await until(lambda: app.flights.queue.waiting_rows == 6)
        for task in gone:
            task.cancel()
        app.lanes.open.set()
        assert (await first).status_code == (await stays).status_code == 200
        assert app.lanes.asked == [1, 1]
        assert app.bodies.held == 0
        assert await app.ingress.drain(1)

    run(scene, flights=1)


@pytest.mark.parametrize(
    ("missing", "null"),
    [
        ({"isolation_forest"}, {"anomaly_score", "novelty_p"}),
        ({"xgboost"}, {"fraud_probability"}),
        ({"xgboost", "isolation_forest"}, {"fraud_probability", "anomaly_score", "novelty_p"}),
    ],
)
def test_without_a_lane_there_is_an_answer_and_it_says_so(
    run: Run, row: Row, missing: set[str], null: set[str]
) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.missing = missing
        answer = (await app.predict(row)).json()
        assert answer["degraded"] is True
        assert {name for name, value in answer.items() if value is None} == null
        if "xgboost" in missing:
            assert answer["decision"] == "review", "the policy's fallback"
            assert answer["reasons"]

    run(scene)


def test_a_mistake_of_ours_is_a_500_that_tells_nothing_and_the_next_request_is_answered(
    run: Run, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(app: Scene) -> None:
        async def broken(*_: Any) -> Any:
            raise ZeroDivisionError("secret detail")

        app.flights._judging._lanes = broken
        answer = await app.predict(row)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        app.flights._judging._lanes = app.lanes
        assert (await app.predict(row)).status_code == 200

    run(scene)


def test_a_drained_app_answers_what_it_has_and_refuses_the_rest(run: Run, row: Row) -> None:
    async def scene(app: Scene) -> None:
        app.lanes.open.clear()
        under_way = asyncio.create_task(app.predict(row))
        await until(lambda: app.lanes.asked)
        assert not await app.ingress.drain(0.01)
        refused = await app.predict(row)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["type"].endswith(":stopping")
        app.lanes.open.set()
        assert await app.ingress.drain(5)
        assert (await under_way).status_code == 200
        assert (await app.client.get("/health")).status_code == 200

    run(scene)


def test_keys_are_asked_for_by_scope_and_probes_need_none(
    run: Run, row: Row, tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    score, read = add_key(file, "pay", ("score",)), add_key(file, "look", ("read",))

    async def scene(app: Scene) -> None:
        async def status(method: str, path: str, key: str | None = None) -> int:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            body = row if path == "/predict" else [row]
            content: dict[str, Any] = {"json": body} if method == "POST" else {}
            answer = await app.client.request(method, path, headers=headers, **content)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
            return answer.status_code

        assert [await status("GET", path) for path in ("/health", "/ready")] == [200, 200]
        for path in ("/predict", "/predict/batch"):
            assert [await status("POST", path, key) for key in (None, "x", read, score)] == [
                401,
                401,
                403,
                200,
            ]
        for path in ("/model", "/metrics", "/docs", "/openapi.json", "/"):
            assert [await status("GET", path, key) for key in (None, "x", score, read)] == [
                401,
                401,
                403,
                200,
            ]

    run(scene, keys=str(file))


def test_ready_names_what_is_missing_and_what_was_refused(run: Run) -> None:
    async def scene(app: Scene) -> None:
        app.router.refusals = [RefusedBundle("XGBoost", "bundles/new", "a changed byte")]
        ready = await app.client.get("/ready")
        assert ready.status_code == 200
        refused = [{"deployment": "XGBoost", "bundle": "bundles/new", "reason": "a changed byte"}]
        assert ready.json()["refused"] == refused
        assert (await app.client.get("/model")).json()["refused"] == refused
        app.router.lacks = {"xgboost": "it is down"}
        ready = await app.client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["missing"] == {"xgboost": "it is down"}

    run(scene)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_the_predict_routes_take_post_alone(run: Run, path: str, method: str) -> None:
    async def scene(app: Scene) -> None:
        answer: httpx.Response = await app.client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.headers["content-type"] == "application/problem+json"

    run(scene)


def test_the_page_names_the_bundle_and_links_the_docs(run: Run) -> None:
    async def scene(app: Scene) -> None:
        page = await app.client.get("/")
        model = (await app.client.get("/model")).json()
        assert page.headers["content-type"].startswith("text/html")
        assert model["model_version"] in page.text
        for link in ("docs", "model", "ready", "metrics"):
            assert f'href="{link}"' in page.text
            assert (await app.client.get(f"/{link}")).status_code == 200

    run(scene)
