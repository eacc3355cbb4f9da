"""A load test in this process: Locust without its command line, its log lines and its exits."""

import logging
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import LocalRunner
from locust.stats import stats_history

from loadtest.exchanges import Kind
from loadtest.load import Load, LoadRun
from loadtest.service import Service
from loadtest.tally import Tally
from loadtest.users import USERS, SentinelUser, Work

Watch = Callable[[Mapping[Kind, Tally], float], None]
"""Called each second with what was counted so far and the seconds it took."""


def run_load(service: Service, load: Load, watch: Watch, *, report: bool = False) -> LoadRun:
    """Puts the load on the service; a first Ctrl-C ends it early, a second at once.

    :raises CannotMake: no transaction fits the service's description.
    """
    _silence_locust()
    random.seed(load.seed)  # Locust draws the next task of a user from here
    work = Work.of(
        service,
        load.kinds,
        rows=load.rows,
        seed=load.seed,
        timeout=load.timeout,
        pause=load.pause,
    )
    SentinelUser.work = work
    environment = Environment(
        user_classes=[USERS[load.kind]],
        host=service.address.url,
        stop_timeout=load.timeout + 1,
    )
    runner = environment.create_local_runner()
    ended = Event()
    crashes: list[BaseException] = []

    def crashed(exception: BaseException, **_: Any) -> None:
        # A mistake in this package, which must not pass for an outcome.
        crashes.append(exception)
        ended.set()

    environment.events.user_error.add_listener(crashed)  # type: ignore[no-untyped-call]
    history = gevent.spawn(stats_history, runner) if report else None
    with _ending_on_signals(ended, runner):

        def have(users: int) -> None:
            if users == runner.target_user_count:
                return
            runner.start(users, load.spawn_rate or load.users)
            if runner.spawning_greenlet is not None:
                runner.spawning_greenlet.link_exception(lambda failed: crashed(failed.exception))

        def each_second(seconds: float) -> None:
            have(load.users_at(seconds))
            watch(work.tallies, seconds)

        have(load.users_at(0))
        _wait(ended, load.warm_up, lambda _: None)
        work.start_counting()
        computed = time.process_time()
        early = _wait(ended, load.duration, each_second)
        busy = (time.process_time() - computed) / (time.perf_counter() - work.counted_from)
        work.over = True
        runner.quit()
    if history is not None:
        history.kill()
    if crashes:
        raise crashes[0]
    return LoadRun(
        tallies=work.tallies,
        details=work.details,
        seconds=work.last_answer - work.counted_from,
        busy=busy,
        ended_early=early,
        report=_html(environment) if report else None,
    )


def _html(environment: Environment) -> str:
    page: str = get_html_report(environment, show_download_link=False)  # type: ignore[no-untyped-call]
    return page


def _wait(ended: Event, duration: float, each_second: Callable[[float], None]) -> bool:
    """Waits until the duration is over; whether it was ended before."""
    start = time.perf_counter()
    while (left := duration - (time.perf_counter() - start)) > 0:
        if ended.wait(min(1.0, left)):
            return True
        each_second(time.perf_counter() - start)
    return False


@contextmanager
def _ending_on_signals(ended: Event, runner: LocalRunner) -> Iterator[None]:
    def end() -> None:
        if ended.is_set():
            runner.user_greenlets.kill(block=False)
        ended.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    watchers = [gevent.signal_handler(number, end) for number in numbers]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _silence_locust() -> None:
    """Locust logs its steps and advice; what matters of them is said in this product's words."""
    root = logging.getLogger()
    if not root.handlers:  # else the first warning would make one that prints
        root.addHandler(logging.NullHandler())
