"""Identity: the same transaction sent twice is answered once, and counted once.

A transaction is known by who sent it and its ``transaction_id``; a digest of its parsed fields
tells the same one from another under the same id. Each is *claimed* by whoever scores it first:

- a claim that is answered gives its answer to whoever sends the same again;
- one that is not is being scored, and its twins wait; after ``LEASE`` seconds its holder is taken
  for dead, and the next one takes it over;
- one whose answer was not worth keeping (degraded) is free for the next at once, but it keeps its
  event id, so that profiles count the transaction once.

Claims live for the idempotency window and are bounded in count; after that the same id is a new
transaction.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from sentinel.records import event_ids, name_hashes
from sentinel.scoring import StoredAnswer
from sentinel.transactions import Transactions

NEW, ANSWERED, BUSY, CONFLICT = 0, 1, 2, 3
"""Verdicts: to be scored now; scored before; being scored; the id was used with other fields."""

VERDICTS = ("new", "answered", "waiting", "conflict")
"""The name of each verdict, for metrics."""

LEASE = 5.0
"""Seconds a claim is held for an answer: ten times what a batch may wait for its models."""


def field_digests(transactions: Transactions) -> NDArray[np.int64]:
    """(n,) digests of all fields of each row but its id; the same from JSON and from Arrow.

    Two bodies that differ have the same with a chance of 2**-64, and only their own sender could
    gain by it.
    """
    size = len(transactions)
    columns = [np.zeros(size, np.int64) if transactions.times is None else transactions.times]
    columns += [name_hashes(keys) for keys in transactions.entities.values()]
    # Adding 0 makes -0.0 the 0.0 that it equals; a missing value is the one NaN there is.
    numbers = np.ascontiguousarray(transactions.numbers.T + 0.0)
    numbers[np.isnan(numbers)] = np.nan
    columns += list(numbers.view(np.int64))
    digests: NDArray[np.int64] = _mix(np.stack(columns))
    return digests


@njit(cache=True, nogil=True)
def _mix(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    mixed = np.empty(columns.shape[1], np.int64)
    for row in range(columns.shape[1]):
        value = np.uint64(0x9E3779B97F4A7C15)
        for column in range(columns.shape[0]):
            value ^= np.uint64(columns[column, row])
            value *= np.uint64(0xFF51AFD7ED558CCD)
            value ^= value >> np.uint64(32)
            value *= np.uint64(0xC4CEB9FE1A85EC53)
            value ^= value >> np.uint64(29)
        mixed[row] = np.int64(value)
    return mixed


class _Claim(msgspec.Struct, gc=False):
    """Not looked at by Python's garbage collector: there are millions, and no cycles."""

    digest: int
    event: int
    since: float
    holder: int
    lease: float
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What claiming n transactions came to; ``answers`` of those ``ANSWERED``, by row."""

    codes: NDArray[np.int8]
    events: NDArray[np.int64]
    """(n,) event ids for the profiles."""
    answers: dict[int, StoredAnswer]


class Claims:
    """The claims of one process's memory. Not safe to share between threads."""

    def __init__(self, window: float, most: int) -> None:
        """``window`` in seconds; ``most`` claims are kept, the oldest go first."""
        self._window = window
        self._most = most
        self._claims: OrderedDict[tuple[str, str], _Claim] = OrderedDict()

    def __len__(self) -> int:
        return len(self._claims)

    def claim(
        self,
        keys: Sequence[tuple[str, str]],
        digests: NDArray[np.int64],
        names: NDArray[np.int64],
        holder: int,
        now: float,
    ) -> Verdicts:
        """Claims each key (caller, transaction id) for ``holder``, in order.

        Of twins in one call the second is ``BUSY``. The same call made again by the same holder,
        because its answer was lost, gets the same claims.
        """
        self._forget(now)
        codes = np.zeros(len(keys), np.int8)
        events = event_ids(names, np.frombuffer(secrets.token_bytes(2 * len(keys)), np.uint16))
        answers: dict[int, StoredAnswer] = {}
        mine: set[tuple[str, str]] = set()
        lease = now + LEASE
        columns = zip(keys, digests.tolist(), events.tolist(), strict=True)
        for row, (key, digest, event) in enumerate(columns):
            claim = self._claims.get(key)
            if claim is not None and now - claim.since >= self._window:
                del self._claims[key]
                claim = None
            if claim is None:
                self._claims[key] = _Claim(digest, event, now, holder, lease)
                mine.add(key)
            elif claim.digest != digest:
                codes[row] = CONFLICT
            elif claim.answer is not None:
                codes[row] = ANSWERED
                answers[row] = claim.answer
            elif key in mine or (claim.holder not in (0, holder) and now < claim.lease):
                codes[row] = BUSY
            else:
                claim.holder, claim.lease = holder, lease
                events[row] = claim.event
                mine.add(key)
        return Verdicts(codes, events, answers)

    def settle(
        self, keys: Iterable[tuple[str, str]], answers: Iterable[StoredAnswer | None], holder: int
    ) -> None:
        """Ends the claims that ``holder`` has on these keys; ``None`` keeps no answer."""
        for key, answer in zip(keys, answers, strict=True):
            claim = self._claims.get(key)
            if claim is not None and claim.holder == holder:
                claim.answer, claim.holder = answer, 0

    def _forget(self, now: float) -> None:
        claims = self._claims
        while claims:
            oldest = next(iter(claims.values()))
            if len(claims) <= self._most and now - oldest.since < self._window:
                return
            claims.popitem(last=False)
