"""What exactly once costs: the stream through ``sentinel ingest``, beside the same scoring by HTTP.

One broker, the service, the workers and what measures them share the machine's cores. First the
service alone judges batches of a thousand by HTTP; then the same kind of transactions, with models
and profiles, go through Kafka: a backlog drained at once, and then a steady rate of half of that,
for the time from a record to its decision as a ``read_committed`` reader sees it. Event time goes
on from each to the next: payments that come days late look like fraud, and what is flagged has to
be explained.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from loadtest.bench_bundle import random_values, write_bench_bundle, write_pair
from loadtest.cells import JSON_1000, Row, ServeBench, cell_of
from loadtest.contenders import service
from loadtest.environments import NotMeasurable
from loadtest.payments import PACE, START, frauds, payments
from loadtest.processes import ContenderFailed, Started, running
from loadtest.profile_bench import PAST_DAYS, bodies_of
from loadtest.stream_rate import Drained, GroupEye, StreamStalled, quixstreams_drains
from loadtest.templates import Traffic, run_numbers
from loadtest.wrk import SPARE, check_wrk, run_wrk
from sentinel.dataset import load_description
from sentinel.transactions import Transactions

SERVICES = "SENTINEL_SERVICES_DIR"
"""Names the folder of ``kafka/up`` and ``down``; else ``../shared/services``."""

RECORDS = int(os.environ.get("SENTINEL_STREAM_RECORDS", "300000"))
"""Records of the backlog; a million is the goal's, and takes its time."""

WARM_SECONDS, STEADY_SECONDS = 30, 15
"""At a steady rate, not timed and timed: brokers compile for seconds when their work changes."""

FIRST_RECORDS = 1_000
"""Records that show that a worker has started, before any is timed."""

HTTP_SECONDS = 5
QUIX_RECORDS = 100_000

GOALS = {"kafka/the same by HTTP": 0.6, "kafka-stateless/quixstreams": 5.0}

OnStep = Callable[[str], None]


@dataclass(slots=True)
class Watched:
    """The workers' memory in MB while a backlog is drained: after the first tenth, and at most."""

    early: float = 0.0
    most: float = 0.0


def measure_stream(on_step: OnStep = lambda _: None) -> ServeBench:
    """The rows ``kafka`` and ``quixstreams``, and what they are beside.

    :raises NoWrk: there is no load generator.
    :raises ContenderFailed: the service or the broker does not start.
    """
    check_wrk()
    if not (_services() / "up").exists():
        why = f"no {_services()}/up; {SERVICES} says where the folder is that has kafka/up"
        names = ("kafka", "quixstreams")
        return ServeBench(dict.fromkeys(names), dict.fromkeys(names, why), [], {})
    with tempfile.TemporaryDirectory() as place, _broker(Path(place) / "kafka") as brokers:
        bench = _Bench(brokers, Path(place), on_step)
        bench.with_profiles()
        try:
            bench.beside_quixstreams()
        except (NotMeasurable, StreamStalled) as error:
            bench.reasons["quixstreams"] = str(error)
        return bench.result()


@dataclass(slots=True)
class _Bench:
    brokers: str
    folder: Path
    on_step: OnStep
    rows: dict[str, Row] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    traffic: Traffic = field(
        default_factory=lambda: Traffic(run_numbers(), START + PAST_DAYS * 86_400.0, PACE)
    )

    def with_profiles(self) -> None:
        """The service with models and profiles: by HTTP, then by Kafka."""
        self.on_step("filling profiles and training the models to serve")
        count = round(PAST_DAYS * 86_400 / PACE)
        pair = write_pair(str(self.folder), payments(count, 1), frauds(count, 2))
        with running(service("kafka", pair.profiles[0], self.folder), self.folder) as started:
            self.on_step("the same scoring by HTTP")
            http = self._http(started)
            self.on_step(f"draining {RECORDS:,} records")
            drained, memory = self._drained("profiles", self._stream(RECORDS, 21))
            flagged = _size(self.brokers, "alerts") / RECORDS
            self.on_step("the time to a decision at half of that rate")
            rate = drained.transactions_per_s / 2
            waits = self._steady(rate)
        per_second = round(drained.transactions_per_s, 1)
        p50, p95, p99 = (round(float(at), 1) for at in np.percentile(waits, (50, 95, 99)))
        self.rows["kafka"] = Row("kafka", "stream", 1, per_second, per_second, p50, p95, p99, 0)
        self.rows["http"] = http
        self.ratios["kafka/the same by HTTP"] = round(per_second / http.transactions_per_s, 3)
        sent = int(rate * STEADY_SECONDS)
        self.notes["kafka"] = (
            f"{drained.records:,} records of {RECORDS:,} timed, one broker on the same cores, "
            f"profiles in memory, about {flagged:.1%} flagged; times to a decision at "
            f"{rate:,.0f}/s, {len(waits):,} of {sent:,} records; "
            f"a worker's memory {memory.early:,.0f} MB early and {memory.most:,.0f} MB at most"
        )

    def beside_quixstreams(self) -> None:
        """The same models without profiles, by both.

        :raises NotMeasurable: Quix Streams cannot be had.
        """
        self.on_step("transactions for Quix Streams")
        bundle, stream = str(self.folder / "creditcard"), self.folder / "creditcard.parquet"
        write_bench_bundle(bundle)
        _write_creditcard(stream, QUIX_RECORDS)
        self._produce("quix.in", [stream], "creditcard")
        self._topic("quix.out")
        self.on_step("Quix Streams")
        log = self.folder / "quixstreams.log"
        quix = quixstreams_drains(self.brokers, "quix.in", "quix.out", bundle, log)
        with running(service("kafka-stateless", bundle, self.folder), self.folder):
            self.on_step("the same by us")
            ours, _ = self._drained("quix", None)
        for name, found in (("quixstreams", quix), ("kafka-stateless", ours)):
            rate = round(found.transactions_per_s, 1)
            self.rows[name] = Row(name, "stream, no profiles", 1, rate, rate, 0, 0, 0, 0)
        ratio = ours.transactions_per_s / quix.transactions_per_s
        self.ratios["kafka-stateless/quixstreams"] = round(ratio, 3)

    def result(self) -> ServeBench:
        """All of it."""
        contenders = {name: self.rows.get(name) for name in ("kafka", "quixstreams")}
        others = [row for name, row in self.rows.items() if name not in contenders]
        goals = {name: goal for name, goal in GOALS.items() if name in self.ratios}
        return ServeBench(contenders, self.reasons, others, self.ratios, goals, self.notes)

    def _http(self, started: Started) -> Row:
        bodies, measured = bodies_of(JSON_1000), []
        for seconds in (1, HTTP_SECONDS):
            fill = self.traffic.next_run(JSON_1000.rows)
            found = run_wrk(
                started.url,
                JSON_1000.path,
                bodies,
                JSON_1000.kind,
                connections=JSON_1000.connections,
                seconds=seconds,
                fill=fill,
            )
            self.traffic.ran(fill, found.requests + JSON_1000.connections + SPARE)
            measured.append(found)
        return cell_of("the same by HTTP", JSON_1000, measured[1:])

    def _drained(self, name: str, stream: Path | None) -> tuple[Drained, Watched]:
        if stream is not None:
            self._produce(f"{name}.in", [stream], "transactions")
        memory = Watched()
        with self._ingesting(name, f"{name}-drain") as alive:
            eye = GroupEye(self.brokers, f"{name}.in", f"{name}-drain")
            watching = threading.Event()
            watcher = threading.Thread(target=_watch, args=(memory, watching))
            watcher.start()
            try:
                return eye.drained(alive), memory
            finally:
                watching.set()
                watcher.join()
                eye.close()

    def _stream(self, records: int, seed: int) -> Path:
        """A file of payments after all that were before."""
        file = self.folder / f"stream-{seed}.parquet"
        _write_raw(file, payments(records, seed, self.traffic.seconds))
        self.traffic.seconds += records * PACE
        return file

    def _steady(self, rate: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """Milliseconds from each record's timestamp to when its decision could be read."""
        first, warm, timed = (
            self._stream(FIRST_RECORDS, 22),
            self._stream(int(rate * WARM_SECONDS), 23),
            self._stream(int(rate * STEADY_SECONDS), 24),
        )
        self._topic("steady.in")
        self._topic("steady.out")
        arrived: dict[str, float] = {}
        done = threading.Event()
        reader = threading.Thread(target=_arrivals, args=(self.brokers, arrived, done))
        with self._ingesting("steady", "steady"):
            reader.start()
            self._produce("steady.in", [first], "transactions")
            try:
                _until(lambda: len(arrived) == FIRST_RECORDS)
                if len(arrived) < FIRST_RECORDS:
                    raise StreamStalled(f"{len(arrived)} of {FIRST_RECORDS:,} records came back")
                pace = ("--rate", str(int(rate)))
                self._produce("steady.in", [warm, timed], "transactions", *pace)
                sent = FIRST_RECORDS + int(rate * WARM_SECONDS) + int(rate * STEADY_SECONDS)
                _until(lambda: len(arrived) == sent)
            finally:
                done.set()
                reader.join()
        written = dict(_stamps(self.brokers, "steady.in"))
        names = {name for name in arrived.keys() & written.keys() if name.startswith("s24-")}
        waits = [1000 * arrived[name] - written[name] for name in names]
        return np.array(waits or [np.nan])

    @contextmanager
    def _ingesting(self, name: str, group: str) -> Iterator[Callable[[], bool]]:
        command = ["ingest", "--bootstrap-servers", self.brokers, "--group", group]
        command += ["--input", f"{name}.in", "--output", f"{name}.out", "--workers", "1:1"]
        log = (self.folder / f"{group}.log").open("wb")
        process = subprocess.Popen([_sentinel(), *command], stdout=log, stderr=log)
        try:
            yield lambda: process.poll() is None
        finally:
            process.terminate()
            process.wait(60)
            log.close()

    def _produce(self, topic: str, files: Sequence[Path], dataset: str, *more: str) -> None:
        command = [_sentinel(), "produce", "--bootstrap-servers", self.brokers, "--topic", topic]
        command += [word for file in files for word in ("--data", str(file))]
        command += ["--dataset", dataset, *more]
        subprocess.run(command, check=True, capture_output=True)

    def _topic(self, name: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for made in admin.create_topics([NewTopic(name, 6)]).values():
            made.result(30)


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Returns when it holds, or the time is over: what is missing shows in the figures."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)


def _size(brokers: str, topic: str) -> int:
    """Records of a topic, the few marks of transactions among them."""
    eye = GroupEye(brokers, topic, "bench.size")
    try:
        return eye.total()
    finally:
        eye.close()


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    """:raises ContenderFailed: it does not start."""
    up, down = _services() / "up", _services() / "down"
    done = subprocess.run([up, "--dir", folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ContenderFailed(f"the broker does not start: {done.stderr[-300:]}")
    try:
        yield done.stdout.strip().removeprefix("KAFKA_BOOTSTRAP=")
    finally:
        command = [str(down), "--dir", str(folder), "--kill", "--wipe"]
        subprocess.run(command, capture_output=True, check=False)


def _services() -> Path:
    named = os.environ.get(SERVICES)
    return (Path(named) if named else Path.cwd().parent / "shared" / "services") / "kafka"


def _sentinel() -> str:
    return str(Path(sys.executable).parent / "sentinel")


def _watch(memory: Watched, done: threading.Event) -> None:
    """Resident memory of the largest worker, twice a second."""
    begun = time.monotonic()
    while not done.wait(0.5):
        sizes = [
            process.memory_info().rss / 2**20
            for process in psutil.process_iter(["cmdline"])
            if "ray::WorkerActor" in " ".join(process.info["cmdline"] or ())
        ]
        memory.most = max([memory.most, *sizes])
        if time.monotonic() - begun < 10:
            memory.early = memory.most


def _arrivals(brokers: str, arrived: dict[str, float], done: threading.Event) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench.reader",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe(["steady.out"])
    while not done.is_set():
        for message in consumer.consume(2_000, timeout=0.05):
            if message.error() is None:
                arrived[_id(message.value() or b"")] = time.time()
    consumer.close()


def _stamps(brokers: str, topic: str) -> Iterator[tuple[str, float]]:
    """The id of each record and when it was written, in milliseconds."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "bench.stamps",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    quiet = 0
    while quiet < 10:
        found = [m for m in consumer.consume(10_000, timeout=1) if m.error() is None]
        quiet = 0 if found else quiet + 1
        for message in found:
            yield _id(message.value() or b""), float((message.timestamp() or (0, 0))[1])
    consumer.close()


def _id(value: bytes) -> str:
    return value.split(b'"transaction_id":"', 1)[1].split(b'"', 1)[0].decode()


def _write_raw(file: Path, rows: Transactions) -> None:
    assert rows.times is not None
    columns = {
        "transaction_id": rows.ids,
        "timestamp": pa.array(rows.times, pa.timestamp("us", "UTC")),
        **rows.entities,
        "amount": pa.array(rows.numbers[:, 0]),
    }
    pq.write_table(pa.table(columns), file)


def _write_creditcard(file: Path, rows: int) -> None:
    names = load_description("creditcard").numbers
    values = random_values(rows, 5)
    columns = {name: pa.array(values[:, at]) for at, name in enumerate(names)}
    ids = pa.array([f"q{at}" for at in range(rows)])
    pq.write_table(pa.table({"transaction_id": ids, **columns}), file)
