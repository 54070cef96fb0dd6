"""The queue utilities: schedule, cancel, look, retry, clear. All async, all in the caller's
transaction: nobody sees what they did before COMMIT, and nothing of it remains after a rollback.

    async with Database(url).transaction() as session:
        await schedule_generate_pin(session, "res-123")

A job is in one of six states: `delayed` (it rings later), `waiting` (it is due), `active` (a worker
has it), `completed`, `failed` (kept until cleared or begun again) and `cancelled`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from pinqueue import codes, mutex, reservations, store
from pinqueue.alarms import QUEUES
from pinqueue.config import STORE, duration, read_settings
from pinqueue.db import Session
from pinqueue.errors import Conflict, InputInvalid, NotFound
from pinqueue.lifecycle import OperationKind
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.store import access_codes, stays
from pinqueue.store import queue as queues
from pinqueue.store.queue import RETRYABLE, STATES, JobFilter

ACTOR = "python"
MOST = 1000
"""Jobs in one answer."""
_FIRST = ("failed", "active", "waiting", "delayed", "completed", "cancelled")
"""Of several locks, whose job tells the status of the stay: the one that most needs a look."""


async def schedule_generate_pin(
    session: Session,
    reservation_id: str,
    check_in: datetime | str | None = None,
    *,
    lead: timedelta | str | None = None,
    planner: Planner | None = None,
    actor: str = ACTOR,
) -> list[dict[str, Any]]:
    """Have a stay's PINs put on its locks `lead` before check-in, at once where that has passed.

    `check_in` moves the stay's check-in, `lead` (`"2h"` as well as a timedelta) is kept as the
    stay's own; without them it is as the booking, the listing and the settings say. Called again it
    moves the time. The removal at check-out is scheduled with it. Returns `{job_id, lock_id,
    scheduled_at}` for each job that waits, none for a stay that is over. `planner` is made of this
    process's settings if not given.

    Raises NotFound, Conflict (the stay is not confirmed), and InputInvalid that names the field.
    """
    now = await store.now(session)
    await reservations.schedule(
        session,
        planner or _planner(),
        actor,
        reservation_id,
        now,
        check_in=_text(check_in),
        lead=_duration(lead),
    )
    return await _planned(session, reservation_id, OperationKind.GENERATE)


async def schedule_revoke_pin(
    session: Session,
    reservation_id: str,
    check_out: datetime | str | None = None,
    *,
    planner: Planner | None = None,
    actor: str = ACTOR,
) -> list[dict[str, Any]]:
    """Have a stay's PINs taken off at check-out; `check_out` moves it. Otherwise as
    `schedule_generate_pin`."""
    now = await store.now(session)
    await reservations.schedule(
        session, planner or _planner(), actor, reservation_id, now, check_out=_text(check_out)
    )
    return await _planned(session, reservation_id, OperationKind.REVOKE)


async def cancel_scheduled_jobs(
    session: Session, reservation_id: str, *, actor: str = ACTOR
) -> dict[str, bool]:
    """Cancel what is scheduled for a stay, on all its locks, until it is scheduled again.

    True for a kind of which a job was cancelled; both False where there was none. No PIN is left
    behind: one that is on a door, or may be, is taken off at once, and a generate that runs is not
    torn, it finishes and is undone.
    """
    cancelled = await reservations.withhold(
        session, actor, reservation_id, await store.now(session)
    )
    return {f"{queue}_cancelled": kind in cancelled for kind, queue in QUEUES.items()}


async def get_scheduled_job_status(
    session: Session, reservation_id: str, kind: str
) -> dict[str, Any] | None:
    """The job of a stay, `kind` being generate or revoke; None when it never had one.

    `{job_id, state, data, attempts, delay}`: `delay` in milliseconds until it rings, 0 once it has;
    `data` says what it rings for, and under `locks` how each lock of the stay fares. Of several
    locks, the top level is the one that most needs a look. The state outlives the job's row.
    """
    if kind not in QUEUES:
        raise InputInvalid("kind", f"must be one of {', '.join(QUEUES)}, not {kind!r}")
    found = await queues.latest_operations(session, reservation_id, kind)
    if not found:
        return None
    lead = min(found, key=lambda one: _FIRST.index(one["state"]))
    data = {key: lead[key] for key in ("reservation_id", "operation_id", "access_code_id")}
    data |= {key: lead[key] for key in ("lock_id", "scheduled_at", "last_error")}
    data |= {"kind": str(kind)}
    told = ("lock_id", "job_id", "state", "scheduled_at", "attempts", "last_error")
    data["locks"] = [{key: one[key] for key in told} for one in found]
    return {
        "job_id": lead["job_id"],
        "state": lead["state"],
        "data": data,
        "attempts": lead["attempts"],
        "delay": round(lead["due_in_seconds"] * 1000),
    }


async def list_queue_jobs(
    session: Session, queue: str, *, limit: int = 100
) -> dict[str, list[dict[str, Any]]]:
    """`{waiting, active, completed, failed}` of a queue, at most `limit` of each: waiting and
    active ones the next first, ended ones the newest first. Delayed jobs are in `waiting`, told
    apart by their state. `find_jobs` pages and filters."""
    which = _checked(JobFilter(queues=(queue,)), limit=limit)
    listed: dict[str, list[dict[str, Any]]] = {}
    for state, newest_first in {"active": False, "completed": True, "failed": True}.items():
        listed[state] = await _jobs(session, which, state, newest_first, limit)
    waiting = await _jobs(session, which, "waiting", False, limit)
    delayed = await _jobs(session, which, "delayed", False, limit)
    return {"waiting": [*waiting, *delayed][:limit], **listed}


@dataclass(frozen=True)
class Page:
    """Some jobs, and where the next ones begin: None when these are the last."""

    jobs: list[dict[str, Any]]
    next_cursor: str | None


async def find_jobs(
    session: Session,
    which: JobFilter | None = None,
    *,
    newest_first: bool = False,
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """Jobs in the order they are due, or the latest first. A cursor stays good while jobs come and
    go: nothing that was there throughout is skipped or told twice. Raises InputInvalid."""
    which = _checked(which or JobFilter(), limit=limit)
    after = _read_cursor(cursor, newest_first) if cursor else None
    found = await queues.jobs(
        session, which, newest_first=newest_first, after=after, limit=limit + 1
    )
    more = len(found) > limit
    found = found[:limit]
    return Page(found, _cursor(found[-1], newest_first) if more else None)


async def retry_job(session: Session, job_id: int, *, actor: str = ACTOR) -> dict[str, Any]:
    """Begin a failed job's operation again, at once; returns the status of what rings for it now.

    Raises NotFound, and Conflict when the job has not failed or nothing is left to do.
    """
    job = await queues.job(session, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}: `pinqueue jobs list` shows them")
    if job["state"] != "failed":
        raise Conflict(f"job {job_id} is {job['state']}: only a failed one is retried")
    kind = _kind(job["queue"])
    code = await access_codes.code_for_update(session, job["access_code_id"])
    await codes.retry(session, actor, code, kind, now=await store.now(session))
    status = await get_scheduled_job_status(session, code.reservation_id, kind)
    assert status is not None  # noqa: S101  # it was begun again just above
    return status


async def retry_failed_jobs(
    session: Session, which: JobFilter | None = None, *, actor: str = ACTOR
) -> dict[str, int]:
    """Retry the failed jobs that match, a thousand at most: `{"retried": n, "left": m}`, `left`
    being those that match still, beyond the thousand or because nothing of them is left to do."""
    which = _checked(which or JobFilter(), state="failed")
    found = await queues.jobs(
        session, replace(which, state=RETRYABLE), newest_first=False, after=None, limit=MOST
    )
    # The stays first, in one order for all who hold several: so nobody waits in a circle.
    await stays.hold_stays(session, {job["reservation_id"] for job in found})
    retried, now = 0, await store.now(session)
    for kind, queue in QUEUES.items():
        of_kind = {job["access_code_id"] for job in found if job["queue"] == queue}
        retried += await codes.retry_all(session, actor, of_kind, kind, now=now)
    return {"retried": retried, "left": await queues.count(session, which)}


async def clear_failed_jobs(session: Session, queue: str, *, actor: str = ACTOR) -> dict[str, int]:
    """Delete a queue's failed jobs: `{"cleared": n}`. Audited; the operations and the audit views
    keep what happened, and what failed is begun again by itself while it matters."""
    _checked(JobFilter(queues=(queue,)))
    cleared = await queues.delete_failed(session, queue)
    await store.record(session, actor, "jobs:cleared", queue=queue, cleared=cleared)
    return {"cleared": cleared}


async def get_queue_health(session: Session) -> dict[str, Any]:
    """How the queues fare: `queues` counts each by state, `workers` and `locks_held` tell who
    works, `oldest_overdue_seconds` how long the oldest due operation has waited."""
    empty = dict.fromkeys(STATES, 0)
    counted = {queue: dict(empty) for queue in QUEUES.values()}
    for row in await queues.counts(session):
        if row["queue"] in counted:
            counted[row["queue"]][row["state"]] = row["jobs"]
    return {
        "queues": counted,
        "workers": await queues.workers(session),
        **await queues.overdue(session),
        "locks_held": await queues.held_locks(session, mutex.NAMESPACE),
    }


async def _planned(
    session: Session, reservation_id: str, kind: OperationKind
) -> list[dict[str, Any]]:
    found = await queues.latest_operations(session, reservation_id, kind)
    return [
        {key: one[key] for key in ("job_id", "lock_id", "scheduled_at")}
        for one in found
        if one["state"] in ("waiting", "delayed", "active")
    ]


async def _jobs(
    session: Session, which: JobFilter, state: str, newest_first: bool, limit: int
) -> list[dict[str, Any]]:
    which = _checked(which, state=state)
    return await queues.jobs(session, which, newest_first=newest_first, after=None, limit=limit)


def _kind(queue: str) -> OperationKind:
    return next(kind for kind, name in QUEUES.items() if name == queue)


def _checked(which: JobFilter, *, state: str | None = None, limit: int = 1) -> JobFilter:
    if not 1 <= limit <= MOST:
        raise InputInvalid("limit", f"must be from 1 to {MOST}")
    names = tuple(which.queues) or tuple(QUEUES.values())
    for name in names:
        if name not in QUEUES.values():
            raise InputInvalid(
                "queue", f"must be one of {', '.join(QUEUES.values())}, not {name!r}"
            )
    state = state or which.state
    if state is not None and state not in STATES:
        raise InputInvalid("state", f"must be one of {', '.join(STATES)}, not {state!r}")
    for field in ("due_from", "due_before"):
        moment = getattr(which, field)
        if moment is not None and moment.tzinfo is None:
            raise InputInvalid(field, "must have a time zone: the database would take its own")
    return replace(which, queues=names, state=state)


def _cursor(job: dict[str, Any], newest_first: bool) -> str:
    told = [newest_first, job["scheduled_at"].isoformat(), job["job_id"]]
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, newest_first: bool) -> tuple[datetime, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        order, at, job_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if order is not newest_first or type(job_id) is not int or abs(job_id) >= 2**63:
            raise ValueError
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise InputInvalid(
            "cursor", "must be the next_cursor of a page with the same order"
        ) from None
    return moment, job_id


@cache
def _planner() -> Planner:
    settings = read_settings()
    settings.require(*STORE)
    return Planner(sealer(settings), settings.lead)


def _duration(lead: timedelta | str | None) -> timedelta | None:
    try:
        value = duration(lead)
    except ValueError as error:
        raise InputInvalid("lead", str(error)) from None
    if not isinstance(value, timedelta | None):
        raise InputInvalid("lead", "must be a timedelta, or a text such as 2h")
    return value


def _text(moment: datetime | str | None) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else moment
