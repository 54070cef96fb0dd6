"""What becomes of access codes, told to whoever asked: endpoints by webhook, hooks after COMMIT."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from pinqueue import alarms, db
from pinqueue.db import Session
from pinqueue.lifecycle import EventType
from pinqueue.models import AccessCode, Operation
from pinqueue.store import deliveries
from pinqueue.store.claiming import ClaimedCode, ClaimedOperation
from pinqueue.store.deliveries import Asked


async def announce(
    session: Session,
    event: EventType,
    *codes: AccessCode | ClaimedCode,
    operation: Operation | ClaimedOperation | None = None,
) -> None:
    """Tell of access codes of one stay as they are now, and of the operation that is the reason.

    What is posted to endpoints commits, or not, with the caller's transaction. Hooks are told of
    operations alone, which only workers perform: what is planned any process may plan, and they
    are loaded in workers.
    """
    asked = await deliveries.asked(session, codes[0].reservation_id, event)
    for code in codes:
        body = _body(event, code, operation, asked)
        if asked.wanted:
            made = await deliveries.insert_deliveries(session, new_event_id(), event, body)
            await alarms.put_deliveries(session, made)
        if operation is not None:
            db.announce(session, body)


def new_event_id() -> str:
    return f"evt_{secrets.token_hex(16)}"


def _body(
    event: EventType,
    code: AccessCode | ClaimedCode,
    operation: Operation | ClaimedOperation | None,
    asked: Asked,
) -> dict[str, Any]:
    """Ids, states and times: never a PIN."""
    return {
        "type": event,
        "timestamp": _utc(asked.now),
        "data": {
            "reservation_id": code.reservation_id,
            "listing_id": asked.listing_id,
            "lock_id": code.lock_id,
            "access_code_id": code.id,
            "state": code.state,
            "starts_at": _utc(code.starts_at),
            "ends_at": _utc(code.ends_at),
            "operation_id": operation.id if operation else None,
            "kind": operation.kind if operation else None,
            "late_seconds": _late_seconds(operation, asked.now) if operation else None,
            "attempts": operation.epoch if operation else None,
            "error": operation.last_error if operation else None,
        },
    }


def _late_seconds(operation: Operation | ClaimedOperation, now: datetime) -> float:
    taken_up_at = operation.first_claimed_at or now
    return max((taken_up_at - operation.due_at).total_seconds(), 0.0)


def _utc(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()
