"""Waiting for work no longer than the one who asked will wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pinqueue import logs

log = logs.get(__name__)

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, or TimeoutError when it takes too long.

    Nobody waits for the work to end then: a COMMIT that is on its way cannot be called back, and a
    connection that is being made to nobody takes its time to give up.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        _ending.add(task)
        task.add_done_callback(_ended)
        raise TimeoutError("no answer in time")
    return task.result()


_ending: set[asyncio.Future[Any]] = set()
"""Work that was told to end: the event loop alone would not keep it alive until it has."""


def _ended(task: asyncio.Future[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.info("work-ended-late", error=type(task.exception()).__name__)
