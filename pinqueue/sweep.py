"""The sweep: finds what no job will ring for any more, and puts it right.

It reads our own rows, so that whatever becomes of a job row costs at most a minute, never a guest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from pinqueue import alarms, codes, fetching, logs, outcomes, store
from pinqueue.db import Database, Session
from pinqueue.errors import DatabaseUnavailable
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.metrics import SWEPT, Metrics
from pinqueue.models import AccessCode, Operation
from pinqueue.mutex import LIVING
from pinqueue.schedule import LATE_AFTER, late_since
from pinqueue.store import access_codes, deliveries, operations, sweeping

log = logs.get(__name__)

T = TypeVar("T")

ACTOR = "sweep"
EVERY = timedelta(seconds=15)
RESCUE_EVERY = timedelta(seconds=1)
SILENCE = sweeping.Silence(
    gone_after=timedelta(seconds=5), dead_after=timedelta(seconds=25), living=LIVING >> 32
)
"""A worker beats every 2 s, and takes its lock again then, should its connection have broken. One
that stops no longer beats, and takes less than the longer time to stop. Should one that is taken
for dead live after all, its epoch is spent: it can record nothing."""
PATIENCE = timedelta(seconds=5)
MOST_RESCUES = 3
HOPELESS = 20
"""After so many rescues an operation is quarantined, whoever else dies."""
BEGIN_AGAIN_AFTER = timedelta(minutes=15)
BATCH = 1000
LATE = "late"


@dataclass(frozen=True)
class PutRight:
    """What was done in one transaction, to be told once it is committed."""

    what: str
    kind: str = ""
    operation_id: int | None = None
    access_code_id: int | None = None
    reservation_id: str | None = None
    job_id: int | None = None
    delivery_id: int | None = None
    event_row: int | None = None
    reason: str = ""


async def sweep(db: Database, retention: timedelta, metrics: Metrics | None = None) -> None:
    """One round. What another sweep has put right meanwhile is left alone."""
    await rescue_stalled(db, metrics)
    await defer_jobless(db, metrics)
    await begin_again(db, metrics)
    await tell_late(db, metrics)
    await defer_deliveries(db)
    await fetch_again(db)
    async with db.transaction() as session:
        await sweeping.prune_jobs(session, retention)
        await deliveries.prune(session, retention)
        await sweeping.fold_job_counts(session)
        await sweeping.forget_rested_pins(session)


async def rescue_stalled(db: Database, metrics: Metrics | None = None) -> int:
    """Take jobs from dead workers; returns how many."""
    async with db.transaction() as session:
        stalled = await sweeping.stalled_jobs(session, SILENCE)

    async def rescue(session: Session, stalled: sweeping.Stalled) -> PutRight | None:
        if not await sweeping.end_stalled_job(session, stalled, SILENCE):
            return None
        revived = None
        if silent := await sweeping.silenced_by(session, stalled):
            # What its worker was at may be half done at the door, and all that it had taken waited
            # for its death to be noticed: behind who is more urgent it would wait a minute more.
            revived = await _revive(session, silent, why=sweeping.DIED, first=True)
        return revived or PutRight("job_ended", job_id=stalled.job_id)

    return await _one_by_one(db, rescue, stalled, metrics)


async def defer_jobless(db: Database, metrics: Metrics | None = None) -> int:
    """Give a job to every operation that should have rung and has none; returns how many."""
    async with db.transaction() as session:
        found = await sweeping.due_without_job(session, PATIENCE, BATCH)

    async def revive(session: Session, silent: sweeping.Silent) -> PutRight | None:
        why = "its job broke down" if silent.broke else "its job was lost"
        return await _revive(session, silent, why=why)

    return await _one_by_one(db, revive, found, metrics)


async def begin_again(db: Database, metrics: Metrics | None = None) -> int:
    """Begin again where an operation failed: a person may have mended what was wrong, and nobody
    must stand before a door, or open it after his stay, because we did not ask once more. Returns
    how many."""
    async with db.transaction() as session:
        found = await sweeping.given_up(session, BEGIN_AGAIN_AFTER)

    async def begin(session: Session, code_id: int) -> PutRight | None:
        code = await access_codes.code_for_update(session, code_id)
        if code.state not in (CodeState.REVOKING, CodeState.FAILED):
            return None
        await codes.begin_again(session, ACTOR, code, now=await store.now(session))
        return PutRight("begun_again", access_code_id=code.id, reservation_id=code.reservation_id)

    return await _one_by_one(db, begin, found, metrics)


async def tell_late(db: Database, metrics: Metrics | None = None) -> int:
    """Tell of every operation that threatens its deadline, once for each deadline: a person may
    still mend it, or let the guest in. Returns how many."""
    async with db.transaction() as session:
        now = await store.now(session)
        found = [
            one
            for one in await sweeping.unconfirmed(session, LATE_AFTER)
            if late_since(one.kind, one.due_at, one.starts_at, now) != one.late_since
        ]

    async def tell(session: Session, one: sweeping.Unconfirmed) -> PutRight | None:
        held = await sweeping.hold_open(session, one.operation_id, one.access_code_id)
        if held is None:
            return None
        operation, code = held
        now = await store.now(session)
        since = late_since(operation.kind, operation.due_at, code.starts_at, now)
        if since == operation.late_since:
            return None
        operation.late_since = since
        if since is None:  # it was at work when its stay was moved: it has another deadline now
            return None
        await store.record(
            session,
            ACTOR,
            f"{operation.kind}:late",
            code=code,
            operation_id=operation.id,
            late_since=since.isoformat(),
            reason=operation.last_error,
        )
        await outcomes.announce(session, EventType.OPERATION_LATE, code, operation=operation)
        return _told(LATE, operation, code, operation.job_id, operation.last_error or "")

    return await _one_by_one(db, tell, found[:BATCH], metrics)


async def defer_deliveries(db: Database) -> int:
    """Give a job to every delivery that should have been posted and has none; returns how many."""
    async with db.transaction() as session:
        found = await deliveries.due_without_job(session, PATIENCE, BATCH)

    async def defer(session: Session, delivery_id: int) -> PutRight | None:
        delivery = await deliveries.hold_silent(session, delivery_id)
        if delivery is None:
            return None
        delivery.next_at = await store.now(session)
        await alarms.put_deliveries(session, [delivery])
        return PutRight("delivery_rescued", delivery_id=delivery_id)

    return await _one_by_one(db, defer, found)


async def fetch_again(db: Database) -> int:
    """Give a job to every event whose booking nobody will fetch, but to those whose tries are spent
    or which killed their worker too often; returns how many there were."""
    async with db.transaction() as session:
        found = await sweeping.lost_fetches(session, EVERY, BATCH)

    async def again(session: Session, lost: sweeping.LostFetch) -> PutRight | None:
        event = await sweeping.hold_lost_fetch(session, lost)
        if event is None:
            return None
        event.rescues += 1 if lost.job_status == "doing" else 0
        if lost.job_status == "failed" or event.rescues > MOST_RESCUES:
            died = f"its worker died {event.rescues} times"
            reason = "every try failed" if lost.job_status == "failed" else died
            await fetching.give_up(session, event, f"its booking was not read: {reason}")
            return PutRight("fetch_given_up", event_row=event.id, reason=reason)
        await fetching.put(session, event.id)
        return PutRight("fetch_rescued", event_row=event.id)

    return await _one_by_one(db, again, found)


async def _one_by_one(
    db: Database,
    put_right: Callable[[Session, T], Awaitable[PutRight | None]],
    found: Sequence[T],
    metrics: Metrics | None = None,
) -> int:
    """Each in a transaction of its own, so that one that cannot be put right holds up no other."""
    done = 0
    for one in found:
        try:
            async with db.transaction() as session:
                told = await put_right(session, one)
        except DatabaseUnavailable as error:
            log.warning("not-rescued", what=str(one), reason=str(error))
        except Exception:
            log.exception("not-rescued", what=str(one))
        else:
            if told is not None:
                done += 1
                _tell(told, metrics)
    return done


def _tell(told: PutRight, metrics: Metrics | None) -> None:
    facts = {name: value for name, value in vars(told).items() if value}
    if told.what == LATE:
        log.warning("operation-late", **facts)
    else:
        log.warning("put-right", **facts)
    if metrics is None:
        return
    if told.what == LATE:
        metrics.operation_late(told.kind)
    elif told.what in SWEPT:
        metrics.operation_swept(told.kind, told.what)


async def _revive(
    session: Session, silent: sweeping.Silent, *, why: str, first: bool = False
) -> PutRight | None:
    """Defer another job, unless it is this operation that breaks workers: then a person looks."""
    held = await sweeping.hold_silent(session, silent)
    if held is None:
        return None
    operation, code = held
    operation.rescues += 1 if silent.broke else 0
    if await _is_to_blame(session, operation, silent):
        event, reason = "quarantined", f"quarantined: {why} {operation.rescues} times"
        await operations.fail_operation(session, operation, reason)
        if operation.kind == OperationKind.GENERATE and code.state != CodeState.FAILED:
            await access_codes.move_code(
                session, code, CodeState.FAILED, failed_at=operation.finished_at
            )
        elif operation.kind == OperationKind.REVOKE and code.state != CodeState.REVOKING:
            # So that it is known to be still to come off, and is begun again.
            await codes.withdraw(session, ACTOR, code, now=await store.now(session))
        await outcomes.announce(session, EventType.CODE_FAILED, code, operation=operation)
    else:
        event, reason = "rescued", why
        # Never before its time, whatever was done to its job: a guest may be using the PIN.
        operation.next_at = max(operation.next_at, await store.now(session))
        await session.flush()
        # Another job takes its place: should it have failed, it is not for a person to look at.
        await sweeping.delete_job(session, silent.job_id)
        await alarms.put(session, [operation], first=first)
    await store.record(
        session,
        ACTOR,
        f"{operation.kind}:{event}",
        code=code,
        operation_id=operation.id,
        reason=reason,
        worker=silent.worker_id,
        silent_since=silent.silent_since and silent.silent_since.isoformat(),
    )
    return _told(event, operation, code, silent.job_id, reason)


async def _is_to_blame(session: Session, operation: Operation, silent: sweeping.Silent) -> bool:
    """Whether it has lost its worker, or its job, too often in a row. Where as many workers died
    without it meanwhile, somebody kills them, and it was there by chance."""
    if operation.rescues <= MOST_RESCUES or silent.worker_id is None:
        return operation.rescues > MOST_RESCUES
    others = await sweeping.died_without_it(
        session, operation.id, lost=operation.rescues - 1, worker_id=silent.worker_id
    )
    return operation.rescues > min(others, HOPELESS)


def _told(
    what: str, operation: Operation, code: AccessCode, job_id: int | None, reason: str
) -> PutRight:
    return PutRight(
        what=what,
        kind=operation.kind,
        operation_id=operation.id,
        access_code_id=code.id,
        reservation_id=code.reservation_id,
        job_id=job_id,
        reason=reason,
    )
