"""Every query and every guarded write. Each joins the caller's transaction; none commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from pinqueue.db import Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import (
    CODE_ENDED,
    OPERATION_OPEN,
    CodeState,
    OperationKind,
    OperationState,
    ReservationStatus,
    sources_of,
)
from pinqueue.models import (
    AccessCode,
    ApiKey,
    AuditEvent,
    JobRecord,
    Listing,
    ListingLock,
    Lock,
    Operation,
    Reservation,
    Source,
    Try,
    WebhookEvent,
)

STRANDED_AFTER = timedelta(seconds=60)
LONGEST_RING = timedelta(minutes=5)
"""No ring lasts that long: each of its calls to a lock is bounded, and they are few."""
PIN_REST = timedelta(days=90)
"""How long a PIN that was on a lock is not used there again."""


async def now(session: Session) -> datetime:
    """The database's clock, which alone decides what is due: workers' clocks differ."""
    moment = await session.scalar(select(func.now()))
    assert isinstance(moment, datetime)  # noqa: S101  # now() is never NULL
    return moment


async def record(
    session: Session,
    actor: str,
    event: str,
    *,
    code: AccessCode | None = None,
    reservation_id: str | None = None,
    operation_id: int | None = None,
    **detail: Any,
) -> None:
    """Append an audit event. `detail` is JSON and never holds a PIN."""
    session.add(
        AuditEvent(
            actor=actor,
            event=event,
            reservation_id=code.reservation_id if code else reservation_id,
            access_code_id=code.id if code else None,
            lock_id=code.lock_id if code else None,
            operation_id=operation_id,
            detail=detail,
        )
    )


# Webhook events


async def source_and_now(session: Session, source_id: str) -> tuple[Source, datetime] | None:
    """A source, with the transaction's time; None when there is none by that name."""
    row = (
        await session.execute(select(Source, func.now()).where(Source.id == source_id))
    ).one_or_none()
    return (row[0], row[1]) if row else None


async def insert_event(
    session: Session, source_id: str, event_id: str, body_sha256: bytes, kind: str, body: Any
) -> int | None:
    """Its row's id; None when the source sent this event id before.

    The same event arriving twice at once waits here for the first to commit or roll back.
    """
    row_id: int | None = await session.scalar(
        insert(WebhookEvent)
        .values(
            source_id=source_id,
            event_id=event_id,
            body_sha256=body_sha256,
            type=kind,
            body=body,
            outcome="ignored",
        )
        .on_conflict_do_nothing(index_elements=["source_id", "event_id"])
        .returning(WebhookEvent.id)
    )
    return row_id


async def event_body_sha256(session: Session, source_id: str, event_id: str) -> bytes | None:
    digest: bytes | None = await session.scalar(
        select(WebhookEvent.body_sha256).filter_by(source_id=source_id, event_id=event_id)
    )
    return digest


async def set_event_outcome(
    session: Session, event_row: int, outcome: str, reservation_id: str, listing_id: str | None
) -> None:
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == event_row)
        .values(outcome=outcome, reservation_id=reservation_id, listing_id=listing_id)
    )


async def unmapped_events(session: Session, listing_id: str) -> Sequence[WebhookEvent]:
    """Events that wait for this listing to be set up, oldest first, held against other readers."""
    return (
        await session.scalars(
            select(WebhookEvent)
            .where(WebhookEvent.outcome == "unmapped", WebhookEvent.listing_id == listing_id)
            .order_by(WebhookEvent.id)
            .with_for_update()
        )
    ).all()


# Listings and reservations

_SET_UP = 0x50510001_00000000
"""The advisory lock that keeps adding a listing and finding none apart. See mutex.NAMESPACE."""


async def hold_set_up(session: Session) -> None:
    """Until this transaction ends, nobody finds that a listing is missing."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SET_UP})


async def await_set_up(session: Session) -> None:
    """Let a listing that is being added appear; one added later will find what we leave."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _SET_UP})


async def listing(session: Session, listing_id: str) -> Listing | None:
    return await session.get(Listing, listing_id)


async def locks_of_listing(session: Session, listing_id: str) -> Sequence[Lock]:
    return (
        await session.scalars(
            select(Lock)
            .join(ListingLock, ListingLock.lock_id == Lock.id)
            .where(ListingLock.listing_id == listing_id)
            .order_by(Lock.id)
        )
    ).all()


async def reservation_for_update(session: Session, reservation_id: str) -> Reservation | None:
    """The reservation, held so that events of one stay are applied one after the other."""
    row: Reservation | None = await session.scalar(
        select(Reservation).where(Reservation.id == reservation_id).with_for_update()
    )
    return row


async def insert_reservation(session: Session, **values: Any) -> bool:
    """False when another transaction was first to create it."""
    inserted = await session.scalar(
        insert(Reservation)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(Reservation.id)
    )
    return inserted is not None


async def overlapping_stays(session: Session, stay: Reservation, *, limit: int) -> Sequence[str]:
    """Other confirmed stays of the same listing that share some time with this one."""
    return (
        await session.scalars(
            select(Reservation.id)
            .where(
                Reservation.listing_id == stay.listing_id,
                Reservation.id != stay.id,
                Reservation.status == ReservationStatus.CONFIRMED,
                Reservation.check_in_at < stay.check_out_at,
                Reservation.check_out_at > stay.check_in_at,
            )
            .order_by(Reservation.check_in_at)
            .limit(limit)
        )
    ).all()


async def upcoming_stays(session: Session, listing_id: str) -> Sequence[Reservation]:
    """The confirmed stays of a listing that have not ended, held for planning."""
    return (
        await session.scalars(
            select(Reservation)
            .where(
                Reservation.listing_id == listing_id,
                Reservation.status == ReservationStatus.CONFIRMED,
                Reservation.check_out_at > func.now(),
            )
            .order_by(Reservation.id)
            .with_for_update()
        )
    ).all()


# Access codes


async def new_code_ids(session: Session, count: int) -> list[int]:
    """Ids for codes about to be inserted: a PIN is sealed for its row before there is one."""
    rows = await session.scalars(
        text("SELECT nextval('access_codes_id_seq') FROM generate_series(1, :count)"),
        {"count": count},
    )
    return list(rows)


async def insert_code(session: Session, **values: Any) -> AccessCode | None:
    """None when the PIN is in use, or was lately, on that lock."""
    code: AccessCode | None = await session.scalar(
        insert(AccessCode)
        .values(state=CodeState.SCHEDULED, **values)
        .on_conflict_do_nothing(index_elements=["pin_fingerprint"])
        .returning(AccessCode)
    )
    return code


async def replace_pin(session: Session, code: AccessCode, **values: Any) -> bool:
    """Give a code other digits; False when they are in use, or were lately, on that lock."""
    try:
        async with session.begin_nested():
            await session.execute(
                update(AccessCode).where(AccessCode.id == code.id).values(**values)
            )
    except IntegrityError:
        return False
    await session.refresh(code)
    return True


async def live_codes(session: Session, reservation_id: str) -> Sequence[AccessCode]:
    """A stay's codes that are on a door or may yet be, each held until the transaction ends."""
    return (
        await session.scalars(
            select(AccessCode)
            .where(AccessCode.reservation_id == reservation_id)
            .where(AccessCode.state.not_in(CODE_ENDED))
            .order_by(AccessCode.id)
            .with_for_update()
        )
    ).all()


async def code_for_update(session: Session, access_code_id: int) -> AccessCode:
    return (
        await session.scalars(
            select(AccessCode).where(AccessCode.id == access_code_id).with_for_update()
        )
    ).one()


async def move_code(session: Session, code: AccessCode, to: CodeState, **values: Any) -> None:
    """The one place where a code's state changes; StateChanged unless the move is allowed."""
    moved = await session.execute(
        update(AccessCode)
        .where(AccessCode.id == code.id, AccessCode.state.in_(sources_of(to)))
        .values(state=to, **values)
        .returning(AccessCode.id)
    )
    if moved.one_or_none() is None:
        raise StateChanged(f"access code {code.id} cannot become {to}: it is no longer as read")
    await session.refresh(code)


# Operations


async def insert_operation(
    session: Session, code: AccessCode, kind: OperationKind, due_at: datetime
) -> Operation:
    operation = Operation(access_code_id=code.id, kind=kind, due_at=due_at, next_at=due_at)
    session.add(operation)
    await session.flush()
    return operation


async def open_operations(session: Session, code: AccessCode) -> dict[str, Operation]:
    """A code's open operations by kind, held until the transaction ends."""
    rows = await session.scalars(
        select(Operation)
        .where(Operation.access_code_id == code.id, Operation.state.in_(OPERATION_OPEN))
        .with_for_update()
    )
    return {operation.kind: operation for operation in rows}


@dataclass(frozen=True)
class Claimed:
    """What a worker works with: the rows as they were when it claimed the operation."""

    operation: Operation
    code: AccessCode
    lock: Lock
    now: datetime


async def operation_due(session: Session, operation_id: int) -> Operation | None:
    """The operation if it is open and due; None when its alarm has nothing (more) to do."""
    operation: Operation | None = await session.scalar(
        select(Operation).where(
            Operation.id == operation_id,
            Operation.state.in_(OPERATION_OPEN),
            Operation.next_at <= func.now(),
        )
    )
    return operation


async def claim_operation(
    session: Session, operation_id: int, access_code_id: int, job_id: int | None
) -> Claimed:
    """Take an operation with a new epoch; StateChanged when it is closed or not due any more.

    Whoever held it with an older epoch can from now on record nothing.
    """
    # The code first, then its operations: everybody locks in this order, so nobody deadlocks.
    code = await code_for_update(session, access_code_id)
    operation = await session.scalar(
        update(Operation)
        .where(
            Operation.id == operation_id,
            Operation.state.in_(OPERATION_OPEN),
            Operation.next_at <= func.now(),
        )
        .values(
            state=OperationState.ACTIVE,
            epoch=Operation.epoch + 1,
            claimed_at=func.now(),
            first_claimed_at=func.coalesce(Operation.first_claimed_at, func.now()),
        )
        .returning(Operation)
    )
    if operation is None:
        raise StateChanged(f"operation {operation_id} is closed, or not due any more")
    await session.execute(
        update(Try)
        .where(Try.operation_id == operation_id, Try.outcome.is_(None))
        .values(outcome="rescued", finished_at=func.now())
    )
    session.add(Try(operation_id=operation_id, epoch=operation.epoch, job_id=job_id))
    lock = await session.get_one(Lock, code.lock_id)
    assert operation.claimed_at is not None  # noqa: S101  # written just above
    return Claimed(operation, code, lock, operation.claimed_at)


async def hold_claim(session: Session, claim: Claimed) -> tuple[Operation, AccessCode]:
    """The claimed rows as they are now; StateChanged unless the claim is still ours.

    Every write after a call to the lock begins here: a worker that slept through its own rescue
    finds another epoch and touches nothing.
    """
    code = await code_for_update(session, claim.code.id)
    operation = await session.scalar(
        select(Operation)
        .where(
            Operation.id == claim.operation.id,
            Operation.state == OperationState.ACTIVE,
            Operation.epoch == claim.operation.epoch,
        )
        .with_for_update()
    )
    if operation is None:
        raise StateChanged(f"operation {claim.operation.id} was taken over or is no longer wanted")
    return operation, code


async def postpone_operation(
    session: Session, operation: Operation, next_at: datetime, **values: Any
) -> None:
    """active → waiting: it rings again at `next_at`. Its worker lived to say so: no poison."""
    await _leave_active(
        session, operation, OperationState.WAITING, next_at=next_at, rescues=0, **values
    )


async def complete_operation(session: Session, operation: Operation) -> None:
    """active → completed."""
    await _leave_active(
        session, operation, OperationState.COMPLETED, finished_at=func.now(), last_error=None
    )


async def fail_operation(session: Session, operation: Operation, error: str) -> None:
    """waiting or active → failed: a person is needed."""
    await _set_operation(
        session,
        operation,
        OPERATION_OPEN,
        OperationState.FAILED,
        finished_at=func.now(),
        last_error=error,
    )


async def cancel_operation(session: Session, operation: Operation) -> None:
    """waiting or active → cancelled: a worker that is at it will find its claim gone."""
    await _set_operation(
        session, operation, OPERATION_OPEN, OperationState.CANCELLED, finished_at=func.now()
    )


async def _leave_active(
    session: Session, operation: Operation, state: OperationState, **values: Any
) -> None:
    await _set_operation(session, operation, {OperationState.ACTIVE}, state, **values)


async def _set_operation(
    session: Session, operation: Operation, expected: Any, state: OperationState, **values: Any
) -> None:
    done = await session.execute(
        update(Operation)
        .where(
            Operation.id == operation.id,
            Operation.epoch == operation.epoch,
            Operation.state.in_(expected),
        )
        .values(state=state, claimed_at=None, **values)
        .returning(Operation.id)
    )
    if done.one_or_none() is None:
        raise StateChanged(f"operation {operation.id} is no longer as read")
    await session.refresh(operation)


async def end_try(session: Session, claim: Claimed, outcome: str, error: str | None = None) -> None:
    await session.execute(
        update(Try)
        .where(
            Try.operation_id == claim.operation.id,
            Try.epoch == claim.operation.epoch,
            Try.outcome.is_(None),
        )
        .values(outcome=outcome, error=error, finished_at=func.clock_timestamp())
    )


# What the sweep asks


@dataclass(frozen=True)
class Silent:
    """An open operation that no living job will ring for."""

    operation_id: int
    access_code_id: int
    job_id: int | None
    broke: bool
    """Whether its last job broke down, and was not merely lost or taken back."""


async def due_without_job(session: Session, patience: timedelta, limit: int) -> list[Silent]:
    """Open operations that should have rung `patience` ago and that no job will ring for."""
    job_status = (
        # A waiting job that is planned for later was put off by a worker whose clock is wrong.
        text(
            "SELECT CASE WHEN status = 'todo' AND scheduled_at > now() + interval '1 minute'"
            " THEN 'put off' ELSE status::text END"
            " FROM procrastinate_jobs WHERE id = operations.job_id"
        )
        .columns(status=Text)
        .scalar_subquery()
        .label("job_status")
    )
    rows = await session.execute(
        select(Operation.id, Operation.access_code_id, Operation.job_id, job_status)
        .where(
            Operation.state.in_(OPERATION_OPEN),
            Operation.next_at <= func.now() - patience,
            or_(
                func.coalesce(job_status, "").not_in(("todo", "doing")),
                # Its worker lives and is done with it, but could not write that down: nobody would
                # ever take that job for stalled.
                and_(
                    job_status == "doing",
                    Operation.state == OperationState.WAITING,
                    Operation.next_at <= func.now() - STRANDED_AFTER,
                ),
                and_(
                    job_status == "doing",
                    Operation.state == OperationState.ACTIVE,
                    Operation.claimed_at <= func.now() - LONGEST_RING,
                ),
            ),
        )
        .order_by(Operation.next_at)
        .limit(limit)
    )
    return [
        Silent(id_, code_id, job_id, status == "failed") for id_, code_id, job_id, status in rows
    ]


async def hold_silent(session: Session, silent: Silent) -> tuple[Operation, AccessCode] | None:
    """Its rows, held; None when somebody has given it another job, or closed it, meanwhile."""
    code = await code_for_update(session, silent.access_code_id)
    operation = await session.scalar(
        select(Operation)
        .where(
            Operation.id == silent.operation_id,
            Operation.state.in_(OPERATION_OPEN),
            Operation.job_id.is_not_distinct_from(silent.job_id),
        )
        .with_for_update()
    )
    return None if operation is None else (operation, code)


_STALLED = """
    SELECT job.id FROM procrastinate_jobs job
    LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id
    WHERE job.status = 'doing' AND job.queue_name IN ('generate_pin', 'revoke_pin')
      AND (worker.id IS NULL OR worker.last_heartbeat < now() - CAST(:dead_after AS interval))
"""


async def stalled_jobs(session: Session, dead_after: timedelta) -> Sequence[int]:
    """Jobs whose worker has given no sign of life for so long."""
    return (await session.scalars(text(_STALLED), {"dead_after": dead_after})).all()


async def fail_stalled_job(session: Session, job_id: int, dead_after: timedelta) -> bool:
    """End a stalled job, so that its worker, should it live, cannot finish another in its name.

    False when it is no longer stalled, or another sweep has it.
    """
    held = await session.scalar(
        text(_STALLED + " AND job.id = :job_id FOR UPDATE OF job SKIP LOCKED"),
        {"dead_after": dead_after, "job_id": job_id},
    )
    if held is None:
        return False
    await session.execute(
        text("SELECT procrastinate_finish_job_v1(:job_id, 'failed', false)"), {"job_id": job_id}
    )
    return True


async def silenced_by(session: Session, job_id: int) -> Silent | None:
    """The open operation that a job rang for which has just been ended."""
    row = (
        await session.execute(
            select(Operation.id, Operation.access_code_id).where(
                Operation.job_id == job_id, Operation.state.in_(OPERATION_OPEN)
            )
        )
    ).one_or_none()
    return None if row is None else Silent(row[0], row[1], job_id, broke=True)


async def prune_jobs(session: Session, retention: timedelta, limit: int = 1000) -> int:
    """Delete job rows that ended so long ago, keeping their last state in our own record of them.

    Procrastinate's own pruning goes by the latest event, and a cancelled job's is its planned time:
    a stay cancelled a year ahead would stay for a year. Failed jobs stay until somebody clears
    them.
    """
    pruned = await session.execute(
        text("""
            WITH ended AS (
                SELECT event.job_id FROM procrastinate_events event
                JOIN procrastinate_jobs job ON job.id = event.job_id
                WHERE event.type IN ('succeeded', 'cancelled', 'aborted')
                  AND event.at < now() - CAST(:retention AS interval)
                  AND job.status IN ('succeeded', 'cancelled', 'aborted')
                LIMIT :limit
            ), gone AS (
                DELETE FROM procrastinate_jobs USING ended
                WHERE procrastinate_jobs.id = ended.job_id
                RETURNING procrastinate_jobs.id, procrastinate_jobs.status
            )
            UPDATE job_records SET state = gone.status::text FROM gone WHERE job_id = gone.id
            RETURNING job_id
        """),
        {"retention": retention, "limit": limit},
    )
    return len(pruned.all())


async def given_up(session: Session, rested: timedelta) -> Sequence[int]:
    """Access codes whose last operation failed so long ago, and which nothing moves on any more:
    to be taken off their door, or to be put there for a stay that is not over."""
    of_this_code = select(Operation).where(Operation.access_code_id == AccessCode.id)
    return (
        await session.scalars(
            select(AccessCode.id).where(
                or_(
                    and_(
                        AccessCode.state == CodeState.REVOKING,
                        ~of_this_code.where(
                            Operation.state.in_(OPERATION_OPEN), Operation.kind == "revoke"
                        ).exists(),
                    ),
                    and_(
                        AccessCode.state == CodeState.FAILED,
                        AccessCode.ends_at > func.now(),
                        ~of_this_code.where(
                            Operation.state.in_(OPERATION_OPEN), Operation.kind == "generate"
                        ).exists(),
                    ),
                ),
                ~of_this_code.where(Operation.finished_at > func.now() - rested).exists(),
            )
        )
    ).all()


async def forget_rested_pins(session: Session) -> int:
    """Let PINs that have been off their lock for 90 days be chosen there again."""
    done = await session.execute(
        update(AccessCode)
        .where(
            AccessCode.pin_fingerprint.is_not(None),
            or_(
                AccessCode.revoked_at < func.now() - PIN_REST,
                AccessCode.cancelled_at < func.now() - PIN_REST,
            ),
        )
        .values(pin_fingerprint=None)
        .returning(AccessCode.id)
    )
    return len(done.all())


async def insert_job_records(session: Session, rows: list[dict[str, Any]]) -> None:
    await session.execute(insert(JobRecord), rows)


async def set_job(session: Session, operation_id: int, job_id: int) -> None:
    await session.execute(
        update(Operation).where(Operation.id == operation_id).values(job_id=job_id)
    )


# Set-up


async def lock_of_device(session: Session, device_id: str) -> Lock | None:
    lock: Lock | None = await session.scalar(select(Lock).filter_by(device_id=device_id))
    return lock


async def key_by_name(session: Session, name: str) -> ApiKey | None:
    key: ApiKey | None = await session.scalar(select(ApiKey).filter_by(name=name).with_for_update())
    return key


# What people ask


async def rows(session: Session, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """A read-only question in SQL, as dicts."""
    result = await session.execute(text(query), parameters)
    return [dict(row) for row in result.mappings()]
