"""Waiting for no longer than was said, on an event loop that may be held up."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Answer = TypeVar("Answer")

GRACE = 0.05
"""Seconds a late answer is still waited for: when the event loop was held up, the deadline and the
answers that came before it are noticed in the same turn."""


async def within(seconds: float, call: Awaitable[Answer]) -> Answer:
    """What the call brings; one that is late is cancelled.

    :raises TimeoutError: nothing within so many seconds; says so.
    """
    asking = asyncio.ensure_future(call)
    try:
        await asyncio.wait([asking], timeout=seconds)
        if not asking.done():
            await asyncio.wait([asking], timeout=GRACE)
    finally:
        if not asking.done():
            asking.cancel()
    if asking.done():
        return asking.result()
    raise TimeoutError(f"no answer within {seconds:g} s")
