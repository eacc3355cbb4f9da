"""The same users in Locust's own web page, or spread over machines by its own command line.

locust -f loadtest/locustfile.py --host http://127.0.0.1:8000

A key comes from the environment variable SENTINEL_API_KEY. Locust's figures are rounded from 100 ms
on and know nothing of an objective; ``sentinel load`` has both.
"""

import os
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner

from loadtest.exchanges import KINDS
from loadtest.service import Address, read_service
from loadtest.users import ArrowBatchUser, JsonBatchUser, SentinelUser, SingleUser, Work
from sentinel.errors import SentinelError

__all__ = ["ArrowBatchUser", "JsonBatchUser", "SingleUser"]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1000, help="Rows of a batch.")
    parser.add_argument("--seed", type=int, default=0, help="Same seed, same amounts and keys.")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Asks the service what it expects, and makes that ready.

    :raises StopTest: it does not answer as it should; Locust says so and ends the test.
    """
    if isinstance(environment.runner, MasterRunner):
        return  # it sends nothing itself
    options: Any = environment.parsed_options
    try:
        address = Address.of(environment.host or "", os.environ.get("SENTINEL_API_KEY"))
        service = read_service(address)
        work = Work.of(service, KINDS, rows=options.rows, seed=options.seed, timeout=10)
    except SentinelError as error:
        environment.process_exit_code = 1
        raise StopTest(str(error)) from error
    work.start_counting()
    SentinelUser.work = work
