"""The topic of labels: each is handed to the application as if it had been posted to /labels."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Message

from kafka_ingest.meter import SHED, Meter
from kafka_ingest.outgoing import Counts, Outcome, Written
from kafka_ingest.reading import Refusal, dead_letter
from kafka_ingest.scorer import App
from sentinel.stream_exchange import Labelled, TryLater


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """Labels as they came; the application reads them."""

    messages: Sequence[Message]


class LabelWork:
    """Labels to the application; what is none is a dead letter. Done again after a crash, which is
    the same as once: a label that is known already changes nothing."""

    def __init__(self, app: App, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def prepare(self) -> None:
        """There is nothing to learn."""

    def read(self, messages: Sequence[Message]) -> ReadLabels:
        """See ``Work``."""
        return ReadLabels(messages)

    async def judge(self, read: ReadLabels) -> Written:
        """Waits until the profiles have taken all of them."""
        if not read.messages:
            return Outcome
        records = [message.value() or b"" for message in read.messages]
        while isinstance(told := await self._app.label(records), TryLater):
            self._meter.waits(SHED)
            await asyncio.sleep(told.seconds)
        return partial(self._outcome, read, told)

    @staticmethod
    def _outcome(read: ReadLabels, told: Labelled) -> Outcome:
        counts: dict[int, Counts] = {}
        for message in read.messages:
            counts.setdefault(message.partition() or 0, Counts()).records += 1
        dead = []
        for error in told.refused:
            message = read.messages[error.index or 0]
            dead.append(dead_letter(message, Refusal.of([error])))
            counts[message.partition() or 0].dead_letters += 1
        return Outcome(dead=dead, counts=counts)
