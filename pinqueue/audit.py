"""What people ask: the audit views, the lists of the command line, and a PIN, on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pinqueue import store
from pinqueue.db import Session
from pinqueue.errors import NotFound, PinQueueError
from pinqueue.models import AccessCode
from pinqueue.pins import Pin
from pinqueue.sealing import Sealer

VIEWS: Final = {
    "audit_jobs": "scheduled_at",
    "audit_operations": "due_at",
    "audit_timeline": "at",
    "audit_late": "due_at",
    "audit_failed": "due_at",
    "audit_live_pins": "starts_at",
    "audit_overdue_pins": "ends_at",
    "audit_daily": "day",
}
"""Each view with the column that `--since` goes by."""

LOCKS: Final = """
    SELECT lock.id AS lock, device_id, protocol,
           coalesce(string_agg(link.listing_id, ', ' ORDER BY link.listing_id), '') AS listings
    FROM locks lock LEFT JOIN listing_locks link ON link.lock_id = lock.id
    GROUP BY lock.id ORDER BY lock.id
"""
LISTINGS: Final = """
    SELECT listing.id AS listing, time_zone, lead,
           coalesce(string_agg(link.lock_id, ', ' ORDER BY link.lock_id), '') AS locks
    FROM listings listing LEFT JOIN listing_locks link ON link.listing_id = listing.id
    GROUP BY listing.id ORDER BY listing.id
"""
SOURCES: Final = """
    SELECT id AS source, kind, enabled, previous_secret_until, created_at
    FROM sources ORDER BY id
"""
ENDPOINTS: Final = """
    SELECT endpoint.id AS endpoint, url, events, private, enabled, disabled_reason,
           (SELECT count(*) FROM deliveries
            WHERE endpoint_id = endpoint.id AND state = 'waiting') AS waiting,
           last.last_status, last.last_error
    FROM endpoints endpoint
    LEFT JOIN LATERAL (
        SELECT last_status, last_error FROM deliveries
        WHERE endpoint_id = endpoint.id AND attempts > 0 ORDER BY id DESC LIMIT 1
    ) last ON true
    ORDER BY endpoint.id
"""
KEYS: Final = """
    SELECT id AS key, name, scopes, created_at, last_used_at, revoked_at FROM api_keys ORDER BY name
"""
CODES: Final = """
    SELECT id AS code, reservation_id, lock_id, state, starts_at, ends_at, active_at, revoked_at
    FROM access_codes
    WHERE reservation_id = coalesce(:reservation, reservation_id) AND id = coalesce(:code, id)
    ORDER BY starts_at, id
"""

rows = store.rows


async def view(
    session: Session, name: str, reservation_id: str | None, since: timedelta | None
) -> list[dict[str, Any]]:
    """A view's rows, oldest first; of one stay, or of the time since, where asked."""
    name = name if name.startswith("audit_") else f"audit_{name}"
    if name not in VIEWS:
        raise NotFound(f"there is no view {name}: choose one of {', '.join(VIEWS)}")
    if reservation_id is not None and name == "audit_daily":
        raise PinQueueError("audit_daily counts days, not stays: leave --reservation out")
    conditions, parameters = ["true"], dict[str, Any]()
    if reservation_id is not None:
        conditions.append("reservation_id = :reservation_id")
        parameters["reservation_id"] = reservation_id
    if since is not None:
        conditions.append(f"{VIEWS[name]} >= now() - CAST(:since AS interval)")
        parameters["since"] = since
    query = f"SELECT * FROM {name} WHERE {' AND '.join(conditions)} ORDER BY {VIEWS[name]}"  # noqa: S608  # names of ours
    return await store.rows(session, query, **parameters)


async def reveal(session: Session, sealer: Sealer, actor: str, access_code_id: int) -> Pin:
    """A code's PIN. The audit row commits with the caller's transaction, before anyone sees it."""
    code = await session.get(AccessCode, access_code_id)
    if code is None:
        raise NotFound(f"there is no access code {access_code_id}")
    if code.pin_sealed is None:
        raise NotFound(f"access code {access_code_id} is {code.state}: its PIN is wiped")
    await store.record(session, actor, "code:revealed", code=code)
    return sealer.open_pin(code.id, code.pin_sealed)
