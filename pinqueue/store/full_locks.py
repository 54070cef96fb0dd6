"""Who waits for room on a full lock, and who gives it."""

from __future__ import annotations

from sqlalchemy import func, select, tuple_

from pinqueue.db import Session
from pinqueue.lifecycle import OPERATION_OPEN, CodeState, OperationKind
from pinqueue.models import AccessCode, Operation
from pinqueue.store.claiming import ClaimedCode


async def nearest_arrival_waiting_for_room(session: Session, lock_id: str) -> int | None:
    """Of the access codes that found their lock full, the one whose stay begins first."""
    code_id: int | None = await session.scalar(
        select(AccessCode.id)
        .join(Operation, Operation.access_code_id == AccessCode.id)
        .where(
            AccessCode.lock_id == lock_id,
            AccessCode.remote_id.is_(None),
            AccessCode.ends_at > func.now(),
            Operation.state.in_(OPERATION_OPEN),
            Operation.kind == OperationKind.GENERATE,
            Operation.waits_for_room,
        )
        .order_by(AccessCode.starts_at, AccessCode.id)
        .limit(1)
    )
    return code_id


async def last_arrival_on_lock(session: Session, code: ClaimedCode) -> int | None:
    """Of the PINs on its lock whose stays have not begun, and begin later than this one's, the last
    to begin."""
    code_id: int | None = await session.scalar(
        select(AccessCode.id)
        .where(
            AccessCode.lock_id == code.lock_id,
            AccessCode.state.in_((CodeState.SENT, CodeState.ACTIVE)),
            AccessCode.starts_at > func.now(),
            tuple_(AccessCode.starts_at, AccessCode.id) > tuple_(code.starts_at, code.id),
        )
        .order_by(AccessCode.starts_at.desc(), AccessCode.id.desc())
        .limit(1)
    )
    return code_id
