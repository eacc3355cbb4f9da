"""What a router answers to a stream's workers, which call it by handle: the same flights, the same
profiles and the same labels as for HTTP, without HTTP.

What a worker has to wait for is an answer here and no error: Ray would log a trace for each.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from sentinel.errors import FieldError, IdentityConflict, Overloaded
from sentinel.parsing import Parsed
from sentinel.profile_store import Label
from sentinel.stream_exchange import (
    KAFKA,
    Contract,
    Labelled,
    OtherContract,
    Scored,
    TryLater,
    contract_of,
    pack_decisions,
    unpack,
)
from serve_app.flights import Flights, Outcome
from serve_app.future import FutureCheck
from serve_app.labels import parse_records
from serve_app.metrics import RouterMetrics
from serve_app.problems import RETRY_SECONDS
from serve_app.served import ServedBundle

AHEAD = 2
"""Parts of a batch in the queue or under way at once: as many as there are flights, so that one is
prepared while the other is scored, and requests still come in between."""


class StreamDesk:
    """Scores and labels for workers, by whichever bundle is served."""

    def __init__(
        self,
        flights: Flights,
        metrics: RouterMetrics,
        future: FutureCheck,
        served: Callable[[], ServedBundle],
    ) -> None:
        self._flights = flights
        self._metrics = metrics
        self._future = future
        self._served = served
        self._contracts: dict[str, Contract] = {}

    def contract(self) -> Contract:
        """What records are to be read by now."""
        served = self._served()
        if served.digest not in self._contracts:
            self._contracts = {served.digest: contract_of(served.judge.description)}
        return self._contracts[served.digest]

    async def score(
        self, topic: str, schema: str, columns: bytes
    ) -> Scored | TryLater | OtherContract:
        """What becomes of the transactions of ``stream_exchange.pack``, read by the contract of
        this ``schema``; their ids are those of this Kafka topic alone."""
        served, contract = self._served(), self.contract()
        if schema != contract.schema:
            return OtherContract(contract)
        transactions = unpack(columns)
        every = np.arange(len(transactions))
        parsed = self._future(served, Parsed(transactions, every, (), len(every)))
        self._metrics.refused(len(parsed.errors))
        try:
            outcome = await self._flights.rows(
                served, parsed.transactions, f"{KAFKA}{topic}", AHEAD
            )
        except Overloaded as error:
            self._metrics.shed(error.bound)
            return TryLater(RETRY_SECONDS, error.bound)
        conflicts = _conflicts(served.judge.description.id, parsed, outcome)
        refused = (*parsed.errors, *conflicts)
        return Scored(pack_decisions(outcome.decisions), parsed.rows[outcome.rows], refused)

    async def label(
        self, records: Sequence[bytes], label: Callable[[Sequence[Label]], Awaitable[list[str]]]
    ) -> Labelled | TryLater:
        """What becomes of labels, each a record's JSON; ``label`` does it."""
        labels, errors = await asyncio.to_thread(parse_records, records, self._future.latest)
        try:
            outcomes = await label(labels) if labels else []
        except Overloaded as error:
            return TryLater(RETRY_SECONDS, error.bound)
        return Labelled(tuple(outcomes), tuple(errors))


def _conflicts(name: str, parsed: Parsed, outcome: Outcome) -> list[FieldError]:
    return [
        FieldError(
            int(parsed.rows[at]),
            name,
            parsed.transactions.ids[at].as_py(),
            IdentityConflict.expected,
        )
        for at in outcome.conflicts.tolist()
    ]
