"""A month of real transactions through the running service, and the same month offline."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentinel.answers import ARROW
from sentinel.bundle import open_bundle
from sentinel.fields import moment
from sentinel.history import history_of
from sentinel.table import LabelledTable
from serve_app.feature_log import read_features
from tests.serve.serving import Served

DAY = 86_400_000_000
SIZES = (1, 1, 2, 5, 20, 100, 500, 2_000)
"""Rows of the requests, drawn at random; those of 100 and more go as Arrow."""

LABEL_DAYS, LATE_DAYS = 5, 10
"""Days after a transaction that its label comes; the label delay is 7."""

LATE_SHARE = 0.1


@dataclass
class Replay:
    """Rows of a table sent one request after the other, in time order, as a till and a chargeback
    desk would send them."""

    served: Served
    table: LabelledTable
    kill_at: int
    """The request before whose answer a router is killed."""
    seed: int = 0
    sent_again: int = 0
    requests: int = 0
    killed: int = 0
    """The process id of the router that was killed."""
    late: set[int] = field(default_factory=set)
    """Rows whose label comes after the label delay."""
    labelled: int = 0

    def run(self) -> None:
        """Sends everything; every row is answered whole in the end."""
        rng = np.random.default_rng(self.seed)
        times = self.table.transactions.times
        assert times is not None
        frauds = np.flatnonzero(self.table.labels)
        self.late = set(frauds[rng.random(len(frauds)) < LATE_SHARE].tolist())
        labels = self._labels(times)
        upcoming = next(labels, None)
        for start, stop in self._cuts(rng):
            while upcoming is not None and upcoming[0] <= times[start]:
                self._label(upcoming[1], upcoming[0])
                upcoming = next(labels, None)
            # A label may not wait for the end of a batch that spans it.
            end = stop if upcoming is None else int(np.searchsorted(times, upcoming[0]))
            for a, b in ((start, min(stop, max(end, start))), (max(min(end, stop), start), stop)):
                if a < b:
                    self._send(a, b)
                    while upcoming is not None and b < len(times) and upcoming[0] <= times[b]:
                        self._label(upcoming[1], upcoming[0])
                        upcoming = next(labels, None)

    def _cuts(self, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        start = 0
        while start < len(self.table):
            stop = min(len(self.table), start + int(rng.choice(SIZES)))
            yield start, stop
            start = stop

    def _labels(self, times: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
        """When labels come, and of which rows: each midnight those of the frauds of a day, and of
        some of its legitimate rows."""
        first, last = int(times[0]) // DAY, int(times[-1]) // DAY
        days = times // DAY
        frauds = set(np.flatnonzero(self.table.labels).tolist())
        for today in range(first, last + 1):
            rows = []
            for of_day, late in ((today - LABEL_DAYS, False), (today - LATE_DAYS, True)):
                found = np.flatnonzero(days == of_day).tolist()
                rows += [r for r in found if r in frauds and (r in self.late) == late]
                rows += found[::50] if not late else []
            if rows:
                yield today * DAY, sorted(set(rows))

    def _label(self, rows: Sequence[int], when: int) -> None:
        ids = self.table.transactions.ids
        stamp = moment(when).isoformat()
        body = [
            {
                "transaction_id": ids[row].as_py(),
                "is_fraud": bool(self.table.labels[row]),
                "timestamp": stamp,
            }
            for row in rows
        ]
        answer = self.served.client.post("/labels", json=body)
        assert answer.status_code == 200, answer.text
        outcomes = {one["outcome"] for one in answer.json()["results"]}
        assert outcomes <= {"applied", "repeated"}, outcomes
        self.labelled += len(rows)

    def _send(self, start: int, stop: int) -> None:
        self.requests += 1
        rows = self.table.transactions.take(slice(start, stop))
        kill = self.requests == self.kill_at
        if kill:
            self.killed = self.served.replicas("FraudRouter")[0]
            os.kill(self.killed, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not self._answered(rows):
            assert time.monotonic() < deadline, "never answered"
            self.sent_again += 1
            time.sleep(0.2)

    def _answered(self, rows: Any) -> bool:
        columns = {
            "transaction_id": rows.ids,
            "timestamp": pa.array(rows.times, pa.timestamp("us", tz="UTC")),
            **rows.entities,
            "amount": pa.array(rows.numbers[:, 0]),
        }
        table = pa.table(columns)
        try:
            if len(rows) >= 100:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                answer = self._post("/predict/batch", bytes(sink.getvalue()), ARROW)
                whole = answer.status_code == 200 and not _degraded(answer.content)
            else:
                body = [
                    row | {"timestamp": row["timestamp"].isoformat()} for row in table.to_pylist()
                ]
                route, sent = ("/predict", body[0]) if len(body) == 1 else ("/predict/batch", body)
                answer = self._post(route, msgspec.json.encode(sent), "application/json")
                whole = answer.status_code == 200 and b'"degraded":true' not in answer.content
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 500, 502, 503, 504), answer.text
        return whole

    def _post(self, route: str, body: bytes, kind: str) -> httpx.Response:
        return self.served.client.post(route, content=body, headers={"content-type": kind})


def _degraded(body: bytes) -> bool:
    table = pa.ipc.open_stream(body).read_all()
    assert table.column("error").null_count == table.num_rows
    return bool(pc.any(table.column("degraded")).as_py())


@dataclass(frozen=True)
class Skew:
    """How online features differ from offline ones, over all rows of a replay."""

    rows: int
    seen: int
    """Rows in the feature log; more than ``rows`` where some were judged again."""
    differing: int
    unexplained: int
    columns: frozenset[str]
    """The features that differ anywhere."""


def compare(folder: Path, replay: Replay, bundle: str) -> Skew:
    """Every feature of every row, bit for bit."""
    opened = open_bundle(bundle)
    features = opened.judge().features
    history = history_of(opened)
    assert history is not None
    table = replay.table
    expected = features(table.transactions, history.note(table.transactions, table.labels))
    online = read_features(folder)
    online = online.filter(pc.invert(online.column("degraded")))
    place = pc.index_in(online.column("transaction_id").combine_chunks(), table.transactions.ids)
    rows = place.to_numpy(zero_copy_only=False)
    found = np.stack([online.column(name).to_numpy() for name in features.names], axis=1)
    wrong = found.view(np.uint32) != expected[rows].view(np.uint32)
    wrong &= ~(np.isnan(found) & np.isnan(expected[rows]))
    bad = np.unique(rows[wrong.any(axis=1)])
    explained = _waits_for_a_label(replay)
    names = np.array(features.names)
    return Skew(
        rows=len(np.unique(rows)),
        seen=len(rows),
        differing=len(bad),
        unexplained=int(np.count_nonzero(~explained[bad])),
        columns=frozenset(names[wrong.any(axis=0)].tolist()),
    )


def _waits_for_a_label(replay: Replay) -> NDArray[np.bool_]:
    """(n,) whether a fraud at the terminal was due to be known, and its label had not come."""
    table = replay.table
    times = table.transactions.times
    assert times is not None
    terminals = np.array(table.transactions.entities["terminal_id"].to_pylist())
    waiting = np.zeros(len(table), np.bool_)
    for row in replay.late:
        due, came = times[row] + 7 * DAY, (times[row] // DAY + LATE_DAYS) * DAY
        waiting |= (terminals == terminals[row]) & (times >= due) & (times < came)
    return waiting
