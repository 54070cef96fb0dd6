"""One operation claimed by a worker: taken, held against others, ended. Many are in `claims`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func, select, update

from pinqueue.db import Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import OPERATION_OPEN, OperationState
from pinqueue.models import AccessCode, Base, Lock, Operation, Try
from pinqueue.store import held
from pinqueue.store.access_codes import code_for_update

P = TypeVar("P", "ClaimedOperation", "ClaimedCode")


@dataclass(slots=True)
class ClaimedOperation:
    """Of an operation what a worker needs at the door, as it was when it was claimed. Plain: to
    make the row's object took longer than to claim it."""

    id: int
    kind: str
    epoch: int
    due_at: datetime
    first_claimed_at: datetime
    waits_for_room: bool
    last_error: str | None

    @classmethod
    def of(cls, operation: Operation) -> ClaimedOperation:
        return _plain(cls, operation)


@dataclass(slots=True)
class ClaimedCode:
    """The same of its access code."""

    id: int
    reservation_id: str
    lock_id: str
    state: str
    starts_at: datetime
    ends_at: datetime
    remote_name: str
    remote_id: int | None
    create_in_doubt_since: datetime | None
    pin_sealed: bytes | None
    pin_hash: str | None
    sent_at: datetime | None
    active_at: datetime | None

    @classmethod
    def of(cls, code: AccessCode) -> ClaimedCode:
        return _plain(cls, code)


def _plain(kind: type[P], row: Base) -> P:
    return kind(**{column.name: getattr(row, column.name) for column in fields(kind)})


@dataclass(frozen=True)
class Claimed:
    """What a worker works with: the rows as they were when it claimed the operation."""

    operation: ClaimedOperation
    code: ClaimedCode
    device_id: str
    protocol: str
    now: datetime
    intends: bool = False
    """Whether a create was intended with it, which the code as it was does not tell yet."""
    asked_on: float = field(default_factory=time.monotonic)
    """Our clock before it was committed: a process that stood still while it was answered must not
    take it for fresh."""


async def claim_operation(
    session: Session, operation_id: int, access_code_id: int, job_id: int | None
) -> tuple[Operation, AccessCode]:
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
    return operation, code


async def claimed(
    session: Session, operation: Operation, code: AccessCode, now: datetime
) -> Claimed:
    """An operation that was claimed in this transaction, with what is known of its code by now."""
    lock = await session.get_one(Lock, code.lock_id)
    return Claimed(
        ClaimedOperation.of(operation),
        ClaimedCode.of(code),
        lock.device_id,
        lock.protocol,
        now,
    )


async def hold_claim(session: Session, claim: Claimed) -> tuple[Operation, AccessCode]:
    """The claimed rows as they are now; StateChanged unless the claim is still ours.

    Every write after a call to the lock begins here: a worker that slept through its own rescue
    finds another epoch and touches nothing.
    """
    code = await code_for_update(session, claim.code.id)
    operation = await session.scalar(
        held(
            select(Operation).where(
                Operation.id == claim.operation.id,
                Operation.state == OperationState.ACTIVE,
                Operation.epoch == claim.operation.epoch,
            )
        )
    )
    if operation is None:
        raise StateChanged(f"operation {claim.operation.id} was taken over or is no longer wanted")
    return operation, code


async def forget_intent(session: Session, claim: Claimed) -> None:
    """Of a claim that did not come to its create, unless somebody intended another meanwhile."""
    await session.execute(
        update(AccessCode)
        .where(AccessCode.id == claim.code.id, AccessCode.create_in_doubt_since == claim.now)
        .values(create_in_doubt_since=None)
    )


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
