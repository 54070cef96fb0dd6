"""What became of an operation, told to whoever asked: endpoints by webhook, hooks after COMMIT."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from pinqueue import alarms, db
from pinqueue.db import Session
from pinqueue.lifecycle import EVENT_TYPES, OperationKind, OperationState
from pinqueue.models import AccessCode, Operation
from pinqueue.store import deliveries


async def announce(session: Session, operation: Operation, code: AccessCode) -> None:
    """Tell of an operation that has just completed or failed, as it and its code are now.

    What is posted to endpoints commits, or not, with the caller's transaction.
    """
    kind = EVENT_TYPES[OperationKind(operation.kind), OperationState(operation.state)]
    listing_id, wanted = await deliveries.listing_and_wanted(session, code.reservation_id, kind)
    body = _body(kind, operation, code, listing_id)
    if wanted:
        made = await deliveries.insert_deliveries(session, new_event_id(), kind, body)
        await alarms.put_deliveries(session, made)
    db.announce(session, body)


def new_event_id() -> str:
    return f"evt_{secrets.token_hex(16)}"


def _body(
    kind: str, operation: Operation, code: AccessCode, listing_id: str | None
) -> dict[str, Any]:
    """Ids, states and times: never a PIN."""
    assert operation.finished_at is not None  # noqa: S101  # it has just ended
    taken_up_at = operation.first_claimed_at or operation.finished_at
    return {
        "type": kind,
        "timestamp": _utc(operation.finished_at),
        "data": {
            "reservation_id": code.reservation_id,
            "listing_id": listing_id,
            "lock_id": code.lock_id,
            "access_code_id": code.id,
            "operation_id": operation.id,
            "state": code.state,
            "starts_at": _utc(code.starts_at),
            "ends_at": _utc(code.ends_at),
            "late_seconds": max((taken_up_at - operation.due_at).total_seconds(), 0.0),
            "attempts": operation.epoch,
            "error": operation.last_error,
        },
    }


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()
