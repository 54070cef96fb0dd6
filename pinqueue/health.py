"""Whether PINs will be on time: what the database says of workers and of what is overdue, and
whether the cloud of the locks can be reached. Answered in time whatever does not answer.

What only an answer needs is imported once there is one: on the command line that takes a good part
of all the time there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from pinqueue.config import LOCK_CLOUD, Settings
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.patience import clock, done_by

T = TypeVar("T")

WITHIN, AT_LEAST = 0.65, 0.3
"""Seconds to reach what is asked, and to be told, and for the latter in any case: together below
one, within which whoever asks has his answer."""
LATE = 120.0
"""Seconds. A due operation that old means that nobody is working: sound the alarm."""
DEAD_AFTER = 30.0
"""Seconds without a sign of life after which a worker counts for nothing."""
_ENDINGS, _ENDING = 5, 0.01

UNKNOWN: dict[str, Any] = dict.fromkeys(
    (
        "queues",
        "workers",
        "oldest_overdue_seconds",
        "late_operations",
        "failed_pins",
        "doubted_locks",
        "doubted_sources",
        "overdue_pins",
        "locks_held",
    )
)


async def report(settings: Settings, db: Database, *, within: float = WITHIN) -> dict[str, Any]:
    """`healthy`, with the `problems` that make it false and `warnings` that do not, as sentences;
    `database` (ok, unreachable), `schema` (`current`, `expected`), `lock_cloud` (reachable,
    unreachable, not set) and what `jobs.get_queue_health` tells; None is what could not be asked.
    """
    told, cloud = await asyncio.gather(_database(db, within), _lock_cloud(settings, within))
    fault = told.pop("fault")
    asked = {**told, "lock_cloud": cloud}
    problems = [*([fault] if fault else ()), *_work_problems(asked), *_cloud_problems(asked)]
    return {"healthy": not problems, "problems": problems, "warnings": _warnings(asked), **asked}


async def _database(db: Database, within: float) -> dict[str, Any]:
    by = clock() + within
    try:
        if await _answer(_reached(db), by):
            from pinqueue import jobs, schema  # noqa: F401  # so that `_told` need not wait for them

            if told := await _answer(_told(db), max(by, clock() + AT_LEAST)):
                return told
    except DatabaseUnavailable as error:
        return _unreachable(str(error))
    return _unreachable(f"the database gave no answer within {within:.1f} s")


async def _reached(db: Database) -> bool:
    async with db.transaction() as session:
        await session.connection()
    return True


async def _told(db: Database) -> dict[str, Any]:
    from pinqueue import jobs, schema

    async with db.transaction() as session:
        found = await schema.found_in(session)
        fault = schema.fault(found)
        figures = UNKNOWN if fault else await jobs.get_queue_health(session)
    revisions = {"current": found.revision, "expected": schema.REVISION}
    return {"database": "ok", "schema": revisions, **figures, "fault": fault}


def _unreachable(why: str) -> dict[str, Any]:
    return {"database": "unreachable", "schema": None, **UNKNOWN, "fault": why}


async def _lock_cloud(settings: Settings, within: float) -> str:
    if not all(getattr(settings, name) for name in LOCK_CLOUD):
        return "not set"
    from pinqueue.locks import tuya_endpoint

    url = tuya_endpoint.endpoint(settings.tuya_region, settings.tuya_url)
    there = await _answer(tuya_endpoint.answers(url, settings.tuya_ca), clock() + within)
    return "reachable" if there else "unreachable"


async def _answer(asking: Coroutine[Any, Any, T], by: float) -> T | None:
    """What it gives, or None where it gives nothing by then, and is ended.

    More than one cancellation may be needed: psycopg takes the first to ask the server kindly to
    stop, for five seconds, and lets go of the connection only at the second.
    """
    task = asyncio.ensure_future(asking)
    try:
        if await done_by(by, task):
            return task.result()
    finally:
        for _ in range(_ENDINGS):
            if task.cancel():
                await asyncio.wait({task}, timeout=_ENDING)
        if task.done() and not task.cancelled():
            task.exception()  # how it ended nobody asks any more
    return None


def _work_problems(asked: dict[str, Any]) -> list[str]:
    if asked["workers"] is None:
        return []
    problems = []
    if not any(worker["heartbeat_age_seconds"] < DEAD_AFTER for worker in asked["workers"]):
        problems.append("no worker is alive: start `pinqueue worker`")
    if (late := asked["oldest_overdue_seconds"]) > LATE:
        problems.append(f"an operation has been due for {_span(late)} and nobody has done it")
    return problems


def _cloud_problems(asked: dict[str, Any]) -> list[str]:
    if asked["lock_cloud"] != "unreachable":
        return []
    return ["the cloud of the locks cannot be reached: no PIN is put on or taken off a door"]


def _warnings(asked: dict[str, Any]) -> list[str]:
    warnings = []
    if late := asked["late_operations"]:
        warnings.append(f"{late} operations threaten their deadline: `pinqueue audit late`")
    if failed := asked["failed_pins"]:
        warnings.append(f"{failed} PINs have failed and need a person: `pinqueue audit failed`")
    if doubted := asked["doubted_locks"]:
        warnings.append(f"{doubted} locks do not list what they should: `pinqueue locks list`")
    if doubted := asked["doubted_sources"]:
        warnings.append(
            f"the bookings of {doubted} sources cannot be read, or believed:"
            " `pinqueue sources list`"
        )
    if overdue := asked["overdue_pins"]:
        warnings.append(
            f"{overdue} PINs are not confirmed off their door past their end:"
            " `pinqueue audit overdue_pins`"
        )
    return warnings


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
