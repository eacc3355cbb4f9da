"""What is sent, and what must come back: one transaction, a JSON batch, an Arrow batch.

Making a body must cost next to nothing, or the test would measure itself. So everything of a body
but the ids and the time is made before the test, and those are set into it when it is sent: every
transaction has an id of its own and the time of its sending.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal, Protocol, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentinel.answers import ARROW, JSON
from sentinel.dataset import ROW_ORDER, DatasetDescription
from sentinel.made_up import Columns, random_columns

Kind = Literal["single", "json", "arrow"]
KINDS: tuple[Kind, ...] = get_args(Kind)

POOL_ROWS = 2**14
"""Rows whose values are made before the test and sent in turn; a few megabytes of bodies."""

POOL_BATCHES = 16
"""Most batches that they make up."""

Clock = Callable[[], float]


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Whether an answer is the one to what was sent.

    ``problem`` says why not, in words that never name an id, so that they can be counted;
    ``scored`` transactions were answered, ``degraded`` of them with something missing.
    """

    problem: str | None
    scored: int = 0
    degraded: int = 0


class Exchange(Protocol):
    """One kind of request. Endless, and not safe to share between threads."""

    kind: Kind
    path: str
    media_type: str

    def make(self) -> tuple[Any, bytes]:
        """The ids in a new body (which ``check`` will ask for), and the body."""

    def check(self, sent: Any, content: bytes) -> Outcome:
        """Holds the body of an answer of status 200 to the ids that were ``sent``."""


class _Answer(msgspec.Struct, gc=False):
    """Of an answer, what shows that it is one, and whose."""

    transaction_id: str
    decision: str
    degraded: bool


class _BatchAnswer(msgspec.Struct):
    results: list[_Answer]
    errors: list[msgspec.Raw]


_ONE = msgspec.json.Decoder(_Answer)
_MANY = msgspec.json.Decoder(_BatchAnswer)
_GOOD, _DEGRADED = Outcome(None, 1, 0), Outcome(None, 1, 1)
_NO_ANSWER = Outcome("the body is no answer")
_WRONG_ID = Outcome("the answer is to another transaction")
_WRONG_COUNT = Outcome("another number of answers than of transactions")
_ROW_ERRORS = Outcome("the answer refuses some of the transactions")


def exchange(
    kind: Kind,
    description: DatasetDescription,
    *,
    run: str,
    rows: int = 1000,
    seed: int = 0,
    pool: int = POOL_ROWS,
    clock: Clock = time.time,
) -> Exchange:
    """The exchange of that kind, with all that can be made before the test.

    ``run`` starts every id and must be new for each run and process: a service remembers ids.
    ``rows`` is of a batch; ``pool``: how many rows have values of their own, which then come again.
    The same arguments and clock make the same bodies.

    :raises CannotMake: no transaction fits the description.
    """
    rng = np.random.default_rng(seed)
    match kind:
        case "single":
            return Singles(description, run, pool, rng, clock)
        case "json":
            return JsonBatches(description, run, rows, _batches(rows, pool), rng, clock)
        case "arrow":
            return ArrowBatches(description, run, rows, _batches(rows, pool), rng, clock)


class Singles:
    """One transaction a request."""

    kind: Kind = "single"
    path = "/predict"
    media_type = JSON

    def __init__(
        self,
        description: DatasetDescription,
        run: str,
        pool: int,
        rng: np.random.Generator,
        clock: Clock,
    ) -> None:
        self._rests = _rests(random_columns(description, pool, rng))
        self._head = b"{" + msgspec.json.encode(description.id) + b':"'
        self._between = _before_time(description)
        self._stamp = _Stamp(clock)
        self._run = f"{run}-s"
        self._numbers = count()

    def make(self) -> tuple[str, bytes]:
        number = next(self._numbers)
        name = f"{self._run}{number}"
        rest = self._rests[number % len(self._rests)]
        if not self._between:
            return name, b"".join((self._head, name.encode(), rest))
        now = self._stamp.now()
        return name, b"".join((self._head, name.encode(), self._between, now, rest))

    def check(self, sent: str, content: bytes) -> Outcome:
        try:
            answer = _ONE.decode(content)
        except msgspec.DecodeError:
            return _NO_ANSWER
        if answer.transaction_id != sent:
            return _WRONG_ID
        return _DEGRADED if answer.degraded else _GOOD


class JsonBatches:
    """A JSON list of transactions a request."""

    kind: Kind = "json"
    path = "/predict/batch"
    media_type = JSON

    # JSON text has no control characters, so these cannot be anything else in it.
    _BATCH = b"\x00" * 8
    _SECOND = b"\x01" * len("2018-08-01T10:00:00")

    def __init__(
        self,
        description: DatasetDescription,
        run: str,
        rows: int,
        batches: int,
        rng: np.random.Generator,
        clock: Clock,
    ) -> None:
        self._run = f"{run}-j"
        self._rows = [f"-{row:06d}" for row in range(rows)]
        self._stamp = _Stamp(clock)
        self._numbers = count()
        self._templates = [self._template(description, rng) for _ in range(batches)]

    def _template(self, description: DatasetDescription, rng: np.random.Generator) -> bytes:
        rests = _rests(random_columns(description, len(self._rows), rng))
        start = b"{" + msgspec.json.encode(description.id) + b':"' + self._run.encode()
        between = _before_time(description)
        parts = []
        for row, rest, moment in zip(self._rows, rests, _moments(len(rests), rng), strict=True):
            when = between + self._SECOND + b".%06dZ" % moment if between else b""
            parts.append(b"".join((start, self._BATCH, row.encode(), when, rest)))
        return b"[" + b",".join(parts) + b"]"

    def make(self) -> tuple[list[str], bytes]:
        number = next(self._numbers)
        start = f"{self._run}{number:08d}"
        body = self._templates[number % len(self._templates)]
        body = body.replace(self._BATCH, b"%08d" % number)
        body = body.replace(self._SECOND, self._stamp.last_second()[1])
        return [start + row for row in self._rows], body

    def check(self, sent: list[str], content: bytes) -> Outcome:
        try:
            answer = _MANY.decode(content)
        except msgspec.DecodeError:
            return _NO_ANSWER
        if answer.errors:
            return _ROW_ERRORS
        if len(answer.results) != len(sent):
            return _WRONG_COUNT
        if [result.transaction_id for result in answer.results] != sent:
            return _WRONG_ID
        return Outcome(None, len(sent), sum(result.degraded for result in answer.results))


class ArrowBatches:
    """An Arrow IPC stream of transactions a request."""

    kind: Kind = "arrow"
    path = "/predict/batch"
    media_type = ARROW

    def __init__(
        self,
        description: DatasetDescription,
        run: str,
        rows: int,
        batches: int,
        rng: np.random.Generator,
        clock: Clock,
    ) -> None:
        self._description = description
        self._stamp = _Stamp(clock)
        self._numbers = count()
        self._start = f"{run}-a"
        ids = [f"{self._start}{0:08d}-{row:06d}" for row in range(rows)]
        width = len(ids[0])
        self._ids = np.frombuffer("".join(ids).encode(), np.uint8).reshape(rows, width)
        self._offsets = pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * width)
        self._templates = [
            (_arrays(description, random_columns(description, rows, rng)), _moments(rows, rng))
            for _ in range(batches)
        ]

    def make(self) -> tuple[pa.StringArray, bytes]:
        number = next(self._numbers)
        columns, moments = self._templates[number % len(self._templates)]
        ids = self._new_ids(number)
        made = {self._description.id: ids, **columns}
        if self._description.time != ROW_ORDER:
            second, _ = self._stamp.last_second()
            made[self._description.time] = _times(second * 1_000_000 + moments)
        batch = pa.record_batch(made)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return ids, sink.getvalue().to_pybytes()

    def _new_ids(self, number: int) -> pa.StringArray:
        ids = self._ids.copy()
        at = len(self._start)
        ids[:, at : at + 8] = np.frombuffer(b"%08d" % number, np.uint8)
        return pa.StringArray.from_buffers(len(ids), self._offsets, pa.py_buffer(ids))

    def check(self, sent: pa.StringArray, content: bytes) -> Outcome:
        try:
            with pa.ipc.open_stream(content) as reader:
                answer = reader.read_all()
            ids = answer.column("transaction_id")
            errors, degraded = answer.column("error"), answer.column("degraded")
        except (pa.ArrowException, OSError, ValueError, KeyError):
            return _NO_ANSWER
        if len(ids) != len(sent):
            return _WRONG_COUNT
        if errors.null_count != len(sent):
            return _ROW_ERRORS
        if not ids.equals(pa.chunked_array([sent])):
            return _WRONG_ID
        return Outcome(None, len(sent), pc.sum(degraded).as_py() or 0)


class _Stamp:
    """The time, as RFC 3339 wants it; the text of a second is made once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._text = b""

    def now(self) -> bytes:
        """This moment, to the microsecond."""
        now = self._clock()
        second = int(now)
        return b"%b.%06dZ" % (self._to_text(second), (now - second) * 1_000_000)

    def last_second(self) -> tuple[int, bytes]:
        """The last second that is over, since 1970 and as text without a fraction or a zone."""
        second = int(self._clock()) - 1
        return second, self._to_text(second)

    def _to_text(self, second: int) -> bytes:
        if second != self._second:
            self._second = second
            moment = datetime.fromtimestamp(second, UTC)
            self._text = moment.replace(tzinfo=None).isoformat().encode()
        return self._text


def _batches(rows: int, pool: int) -> int:
    return max(1, min(POOL_BATCHES, pool // rows))


def _moments(rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Microseconds within a second, in order."""
    return np.sort(rng.integers(0, 1_000_000, rows))


def _times(stamps: NDArray[np.int64]) -> pa.TimestampArray:
    kind = pa.timestamp("us", tz="UTC")
    return pa.Array.from_buffers(kind, len(stamps), [None, pa.py_buffer(stamps)])


def _before_time(description: DatasetDescription) -> bytes:
    """What stands between the id and the time of a JSON object; nothing where it has no time."""
    if description.time == ROW_ORDER:
        return b""
    return b'",' + msgspec.json.encode(description.time) + b':"'


def _rests(columns: Columns) -> list[bytes]:
    """For each row what follows in its JSON object, from the quote that ends the id or time.

    A missing value is null in one row and left out of the next: both are allowed.
    """
    names = list(columns)
    rests = []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        keep_null = row % 2 == 0
        members = {
            name: value
            for name, value in zip(names, values, strict=True)
            if keep_null or value is not None
        }
        rests.append(b'",' + msgspec.json.encode(members)[1:])
    return rests


def _arrays(description: DatasetDescription, columns: Columns) -> dict[str, pa.Array]:
    # Left to itself Arrow would give a column of nothing but missing values no type.
    kinds = {"string": pa.string(), "category": pa.string(), "boolean": pa.bool_()}
    arrays = {}
    for name, values in columns.items():
        kind = kinds.get(description.inputs[name].type, pa.float64())
        if description.inputs[name].type == "integer" and all(
            value is None or isinstance(value, int) for value in values
        ):
            kind = pa.int64()
        arrays[name] = pa.array(values, kind)
    return arrays
