"""Waiting for work no longer than the one who asked will wait, and as long as others ask us to."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from pinqueue import logs

log = logs.get(__name__)

T = TypeVar("T")

SCHEDULER = Path("/proc/thread-self/schedstat")


def clock() -> float:
    """Seconds, but for those in which this thread could have run and others had the processor.

    On a machine as busy as that, who is asked is slow as well, and not away.
    """
    scheduler: _Scheduler | None = getattr(_of_thread, "scheduler", None)
    if scheduler is None:
        scheduler = _of_thread.scheduler = _Scheduler()
    return time.monotonic() - scheduler.waited()


class _Scheduler:
    """What it says of the thread that makes this. Kept open: every request asks it twice, and to
    open it takes ten times as long as to read it."""

    def __init__(self) -> None:
        self._file = os.open(SCHEDULER, os.O_RDONLY) if SCHEDULER.exists() else None

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def waited(self) -> float:
        if self._file is None:  # another system than Linux: there, busy looks like away
            return 0.0
        return int(os.pread(self._file, 100, 0).split()[1]) / 1e9


_of_thread = threading.local()


async def done_by(moment: float, task: asyncio.Future[Any]) -> bool:
    """Whether the task is done, waited for until that moment of `clock`."""
    while not task.done() and (left := moment - clock()) > 0:
        await asyncio.wait({task}, timeout=left)
    return task.done()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, or TimeoutError when it takes too long.

    Nobody waits for the work to end then: a COMMIT that is on its way cannot be called back, and a
    connection that is being made to nobody takes its time to give up.
    """
    task = asyncio.ensure_future(work)
    if not await done_by(clock() + seconds, task):
        task.cancel()
        _ending.add(task)
        task.add_done_callback(_ended)
        raise TimeoutError("no answer in time")
    return task.result()


async def to_the_end(running: asyncio.Future[T]) -> T:
    """What a call gives, also when we are cancelled meanwhile; that strikes at the next await. For
    what the server does whether or not anybody waits for it."""
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        cancel_once_more()
    return running.result()


def cancel_once_more() -> None:
    """Let the cancellation that was just caught strike at the next await."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in a task
    task.uncancel()
    task.cancel()


_ending: set[asyncio.Future[Any]] = set()
"""Work that was told to end: the event loop alone would not keep it alive until it has."""


def _ended(task: asyncio.Future[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.info("work-ended-late", error=type(task.exception()).__name__)


def asked_wait(retry_after: str, most: float) -> float | None:
    """The seconds from now that a `Retry-After` asks for: it is a number of them, or an HTTP date.
    None where it is neither; what it asks beyond `most` is not granted."""
    try:
        if retry_after.isdecimal():
            seconds = float(retry_after)
        else:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), most)
