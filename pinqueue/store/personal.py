"""Where rows tell of a guest in person: stays, what was told of them, the bodies of webhooks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from pinqueue.db import Session
from pinqueue.models import Reservation
from pinqueue.store import rows

_WITHOUT_GUEST = """
    guest_name = NULL, guest_phone = NULL,
    told = (SELECT coalesce(jsonb_agg(jsonb_set(
                       telling, '{fields}',
                       (telling -> 'fields') - ARRAY['guest_name', 'guest_phone']
                   ) ORDER BY place), '[]')
            FROM jsonb_array_elements(told) WITH ORDINALITY AS tellings (telling, place))
"""
"""Stale tellings stay stale: their times stay, the words about the guest go."""

_FORGET_GUESTS = f"""
    UPDATE reservations SET {_WITHOUT_GUEST}
    WHERE id IN (
        SELECT id FROM reservations
        WHERE coalesce(check_out_at, updated_at) < now() - CAST(:kept AS interval)
          AND (guest_name IS NOT NULL OR guest_phone IS NOT NULL)
        LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
"""  # noqa: S608  # no word of it comes from outside
_FORGET_BODIES = """
    UPDATE webhook_events SET body = '{}'
    WHERE id IN (
        SELECT id FROM webhook_events
        WHERE received_at < now() - CAST(:kept AS interval)
          AND body <> '{}' AND outcome NOT IN ('unmapped', 'fetching')
        LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
"""
_FORGET_UNMAPPED = """
    UPDATE webhook_events SET body = '{}', outcome = 'ignored'
    WHERE id IN (
        SELECT id FROM webhook_events
        WHERE received_at < now() - CAST(:kept AS interval) AND outcome = 'unmapped'
        LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id
"""
_FORGET_AUDIT = """
    DELETE FROM audit_events
    WHERE id IN (
        SELECT id FROM audit_events WHERE at < now() - CAST(:kept AS interval)
        ORDER BY at LIMIT :limit)
    RETURNING id
"""


async def forget_guests(session: Session, kept: timedelta, limit: int) -> int:
    """Names and phones of stays that ended so long ago; returns of how many stays."""
    return await _count(session, _FORGET_GUESTS, kept, limit)


async def forget_bodies(session: Session, kept: timedelta, limit: int) -> int:
    """Bodies of webhooks that came so long ago, but of those still to be worked on. Their ids and
    hashes stay, by which a repeat is known."""
    return await _count(session, _FORGET_BODIES, kept, limit)


async def forget_unmapped(session: Session, kept: timedelta, limit: int) -> int:
    """Webhooks that have waited for their listing for so long that nobody will add it."""
    return await _count(session, _FORGET_UNMAPPED, kept, limit)


async def forget_audit(session: Session, kept: timedelta, limit: int) -> int:
    """Audit events so old; the database refuses the deletion of any younger than 90 days."""
    return await _count(session, _FORGET_AUDIT, kept, limit)


async def _count(session: Session, statement: str, kept: timedelta, limit: int) -> int:
    done = await session.execute(text(statement), {"kept": kept, "limit": limit})
    return len(done.all())


OF_A_STAY = {
    "reservation": "SELECT * FROM reservations WHERE id = :id",
    "webhooks": """
        SELECT received_at, source_id, event_id, type, outcome, body FROM webhook_events
        WHERE reservation_id = ANY(:ids) ORDER BY id
    """,
    "access_codes": """
        SELECT id, lock_id, state, starts_at, ends_at, created_at, sent_at, active_at, failed_at,
               revoked_at, cancelled_at
        FROM access_codes WHERE reservation_id = :id ORDER BY id
    """,
    "operations": """
        SELECT operation.id, access_code_id, kind, operation.state, due_at, first_claimed_at,
               finished_at, last_error
        FROM operations operation JOIN access_codes code ON code.id = access_code_id
        WHERE reservation_id = :id ORDER BY operation.id
    """,
    "audit_events": """
        SELECT at, actor, event, access_code_id, operation_id, lock_id, detail FROM audit_events
        WHERE reservation_id = ANY(:ids) ORDER BY id
    """,
}
"""All that is stored of one stay, but seals and hashes, which tell nobody anything."""
ERASE = (
    f"UPDATE reservations SET {_WITHOUT_GUEST} WHERE id = :id",  # noqa: S608  # ours, as above
    "UPDATE webhook_events SET body = '{}' WHERE reservation_id = ANY(:ids) AND body <> '{}'",
)


async def of_a_stay(session: Session, stay: Reservation) -> dict[str, list[dict[str, Any]]]:
    return {
        name: await rows(session, query, id=stay.id, ids=ids_of(stay))
        for name, query in OF_A_STAY.items()
    }


async def erase_guest(session: Session, stay: Reservation) -> None:
    """Of a stay that the caller holds."""
    for statement in ERASE:
        await session.execute(text(statement), {"id": stay.id, "ids": ids_of(stay)})


def ids_of(stay: Reservation) -> list[str]:
    return [id_ for id_ in (stay.id, stay.other_id) if id_ is not None]
