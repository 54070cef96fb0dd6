"""Operations: made, postponed, ended. What a worker does under a claim is in `claiming`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from pinqueue.db import Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import OPERATION_OPEN, OperationKind, OperationState
from pinqueue.models import AccessCode, Operation
from pinqueue.store import held


async def insert_operation(
    session: Session, code: AccessCode, kind: OperationKind, due_at: datetime
) -> Operation:
    operation = Operation(access_code_id=code.id, kind=kind, due_at=due_at, next_at=due_at)
    session.add(operation)
    await session.flush()
    return operation


async def insert_operations(
    session: Session, codes: Sequence[AccessCode], kind: OperationKind, due_at: datetime
) -> list[Operation]:
    """One for each code."""
    operations = [
        Operation(access_code_id=code.id, kind=kind, due_at=due_at, next_at=due_at)
        for code in codes
    ]
    session.add_all(operations)
    await session.flush()
    return operations


async def open_operations(session: Session, code: AccessCode) -> dict[str, Operation]:
    """A code's open operations by kind, held until the transaction ends."""
    rows = await session.scalars(
        held(
            select(Operation).where(
                Operation.access_code_id == code.id, Operation.state.in_(OPERATION_OPEN)
            )
        )
    )
    return {operation.kind: operation for operation in rows}


async def codes_with_open_operation(
    session: Session, ids: Collection[int], kind: OperationKind
) -> set[int]:
    """Which of these codes have one of that kind."""
    found = await session.scalars(
        select(Operation.access_code_id).where(
            Operation.access_code_id.in_(ids),
            Operation.kind == kind,
            Operation.state.in_(OPERATION_OPEN),
        )
    )
    return set(found)


async def waiting_for_lock(session: Session, lock_id: str) -> list[tuple[int, str]]:
    """The access codes, each with the kind of its operation, that wait out the gap after a try in
    which their lock was out of reach, or had not yet done as it was told."""
    found = await session.execute(
        select(AccessCode.id, Operation.kind)
        .join(Operation, Operation.access_code_id == AccessCode.id)
        .where(
            AccessCode.lock_id == lock_id,
            Operation.state == OperationState.WAITING,
            Operation.first_claimed_at.is_not(None),
            Operation.failures == 0,
            ~Operation.waits_for_room,
            Operation.next_at > func.now(),
        )
        .order_by(AccessCode.id, Operation.kind)
    )
    return [(code_id, kind) for code_id, kind in found]


async def postpone_operation(
    session: Session, operation: Operation, next_at: datetime, *, lived: bool, **values: Any
) -> None:
    """active → waiting: it rings again at `next_at`. That its worker `lived` through it weighs
    against one that died: over weeks some restarts are no poison, and a poison does not get away
    because the cloud was in trouble in between."""
    rescues = max(operation.rescues - 1, 0) if lived else operation.rescues
    await _leave_active(
        session, operation, OperationState.WAITING, next_at=next_at, rescues=rescues, **values
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
