"""Locust users that pay: they send transactions and hold the answers to what they sent.

Importing this imports Locust, which patches the standard library for gevent unless the environment
says ``LOCUST_SKIP_MONKEY_PATCH``; nothing here needs the patches.
"""

import math
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from geventhttpclient.url import URL
from locust import FastHttpUser, task
from locust.exception import CatchResponseError, StopUser

from loadtest.exchanges import Exchange, Kind, Outcome, exchange
from loadtest.load import LoadKind
from loadtest.service import Address, Service, problem_of
from loadtest.tally import OK, Tally

BACK_OFF = 0.1
"""Seconds a user waits after a request that got no answer at all: without it, users whose service
is gone would do nothing but count to millions."""


@dataclass(slots=True)
class Work:
    """What all users of this process share during one test."""

    address: Address
    exchanges: Mapping[Kind, Exchange]
    timeout: float
    """Seconds without a byte of an answer after which a request has failed."""
    pause: float = 0.0
    """Seconds between an answer and a user's next request, on average."""
    counted_from: float = math.inf
    """Requests sent before this moment of ``time.perf_counter`` are not counted."""
    last_answer: float = math.inf
    """When, by the same clock, the last counted answer came."""
    over: bool = False
    """No more requests are sent; those under way are waited for."""
    tallies: dict[Kind, Tally] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    """For each problem what the service first said of it."""

    @classmethod
    def of(
        cls,
        service: Service,
        kinds: Sequence[Kind],
        *,
        rows: int,
        seed: int,
        timeout: float,
        pause: float = 0.0,
    ) -> "Work":
        """:raises CannotMake: no transaction fits the service's description."""
        run = secrets.token_hex(4)
        exchanges = {
            kind: exchange(kind, service.description, run=run, rows=rows, seed=seed)
            for kind in kinds
        }
        tallies = {kind: Tally() for kind in kinds}
        return cls(service.address, exchanges, timeout, pause, tallies=tallies)

    def start_counting(self) -> None:
        """From now on requests count."""
        self.counted_from = self.last_answer = time.perf_counter()


class SentinelUser(FastHttpUser):
    """Someone with one connection who sends the next request when the answer has come, at once or
    after a pause.

    FastHttpUser gives it its connection, with timeouts and TLS; the requests are made on that
    connection directly, which halves what a request costs this process.
    """

    abstract = True
    insecure = False  # a key is sent: certificates are checked
    work: ClassVar[Work]
    """Set before a test begins."""

    def __init__(self, environment: Any) -> None:
        self.network_timeout = self.connection_timeout = self.work.timeout
        super().__init__(environment)

    def on_start(self) -> None:
        host = self.host or ""
        self._http: HTTPClient = self.client.client.clientpool.get_client(URL(host))
        self._root = urlsplit(host).path.rstrip("/")
        self._headers = {
            kind: {**self.work.address.headers, "Content-Type": what.media_type}
            for kind, what in self.work.exchanges.items()
        }

    def wait_time(self) -> float:
        """Seconds until the next request; asked by Locust. Of one length they would keep users that
        were once answered together in step, a wave a pause."""
        return random.uniform(0.5, 1.5) * self.work.pause

    def send(self, kind: Kind) -> None:
        """One request of this kind, counted with its outcome."""
        work, what = self.work, self.work.exchanges[kind]
        if work.over:  # Locust may let a user go round once more when it stops it
            raise StopUser
        sent, body = what.make()
        headers = self._headers[kind]
        start = time.perf_counter()
        try:
            response = self._http.request("POST", self._root + what.path, body, headers)
            status, content = response.status_code, response.read()
        except (OSError, HTTPParseError) as error:
            self._count(what, start, Outcome(_reason(error, work.timeout)))
            gevent.sleep(BACK_OFF)
            return
        except gevent.GreenletExit:
            if work.over:  # waited for long enough; Locust on its own just drops what is under way
                self._count(what, start, Outcome("no answer until the test was cut off"))
            raise
        came = time.perf_counter()
        if status == OK:
            self._count(what, start, what.check(sent, content), came, status, len(content))
            return
        problem = f"status {status}"
        if problem not in work.details:
            work.details[problem] = work.address.conceal(problem_of(content))
        self._count(what, start, Outcome(problem), came, status, len(content))

    def _count(
        self,
        what: Exchange,
        start: float,
        outcome: Outcome,
        came: float = math.nan,
        status: int = 0,
        size: int = 0,
    ) -> None:
        if start < self.work.counted_from:
            return
        if math.isnan(came):
            came = time.perf_counter()
        milliseconds = (came - start) * 1000
        self.work.last_answer = came
        self.work.tallies[what.kind].add(milliseconds, outcome, status)
        self.environment.events.request.fire(
            request_type="POST",
            name=f"{what.path} ({what.kind})",
            response_time=milliseconds,
            response_length=size,
            exception=CatchResponseError(outcome.problem) if outcome.problem else None,
            context={},
        )


class SingleUser(SentinelUser):
    """One transaction a request."""

    weight = 8

    @task
    def predict(self) -> None:
        self.send("single")


class JsonBatchUser(SentinelUser):
    """A JSON list of transactions a request."""

    @task
    def predict_batch(self) -> None:
        self.send("json")


class ArrowBatchUser(SentinelUser):
    """An Arrow stream of transactions a request."""

    @task
    def predict_batch(self) -> None:
        self.send("arrow")


class MixedUser(SentinelUser):
    """Mostly single transactions, and now and then a batch."""

    @task(8)
    def predict(self) -> None:
        self.send("single")

    @task(1)
    def predict_json(self) -> None:
        self.send("json")

    @task(1)
    def predict_arrow(self) -> None:
        self.send("arrow")


USERS: dict[LoadKind, type[SentinelUser]] = {
    "single": SingleUser,
    "json": JsonBatchUser,
    "arrow": ArrowBatchUser,
    "mixed": MixedUser,
}


def _reason(error: Exception, timeout: float) -> str:
    """Why no answer came, in words that do not differ from request to request."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, HTTPConnectionClosed | ConnectionResetError | BrokenPipeError):
        return "the connection was closed before an answer"
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text:.100}"
