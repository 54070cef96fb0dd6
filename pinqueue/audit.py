"""What people ask: the audit views, the lists of the command line, and a PIN, on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, NamedTuple

from pinqueue import codes, reservations, store
from pinqueue.db import Session
from pinqueue.errors import InputInvalid, NotFound
from pinqueue.models import AccessCode
from pinqueue.pins import Pin
from pinqueue.sealing import Sealer
from pinqueue.store import neighbours


class View(NamedTuple):
    since: str
    """The column that `--since` goes by."""
    tells: str


VIEWS: Final = {
    "audit_timeline": View("at", "every event of a stay, in order: what, when, by whom"),
    "audit_jobs": View(
        "scheduled_at", "every job, pruned ones too: how late, how long, last error"
    ),
    "audit_operations": View("due_at", "every generate and revoke: state, tries, lateness"),
    "audit_late": View("due_at", "operations that were or are late, or threaten to be, and why"),
    "audit_failed": View("due_at", "operations that need a person"),
    "audit_live_pins": View("starts_at", "what each door holds, or may hold, and until when"),
    "audit_overdue_pins": View("ends_at", "PINs not confirmed off their door: must be empty"),
    "audit_daily": View("day", "each day's operations, with median and worst lateness"),
}

LOCKS: Final = """
    SELECT id AS lock, device_id, protocol,
           ARRAY(SELECT listing_id FROM listing_locks WHERE lock_id = lock.id ORDER BY 1)
               AS listings,
           patrolled_at, patrol_fault AS fault
    FROM locks lock ORDER BY id
"""
LISTINGS: Final = """
    SELECT id AS listing, time_zone, lead, check_in_time, check_out_time, buffer_before,
           buffer_after,
           ARRAY(SELECT lock_id FROM listing_locks WHERE listing_id = listing.id ORDER BY 1)
               AS locks
    FROM listings listing ORDER BY id
"""
SOURCES: Final = """
    SELECT id AS source, kind, enabled, previous_secret_until, api IS NOT NULL AS has_api,
           reconciled_at, api_error, list_fault, created_at
    FROM sources ORDER BY id
"""
ENDPOINTS: Final = """
    SELECT endpoint.id AS endpoint, url, events, private, with_pin, enabled, disabled_reason,
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

STAY: Final = """
    SELECT id AS reservation_id, listing_id, status, check_in_at, check_out_at, guest_name, lead,
           early_check_in_at, late_check_out_at, source_id AS source, pins_withheld_at
    FROM reservations
"""
RESERVATIONS: Final = (
    STAY
    + """
    WHERE (CAST(:listing AS text) IS NULL OR listing_id = :listing)
      AND (CAST(:status AS text) IS NULL OR status = :status)
    ORDER BY check_in_at DESC NULLS LAST, id LIMIT :limit
"""
)

rows = store.rows


async def stay(session: Session, reservation_id: str) -> dict[str, Any]:
    """A stay, with its access codes under `codes`. Raises NotFound."""
    found = await rows(session, STAY + "WHERE id = :id", id=reservation_id)
    if not found:
        raise reservations.unknown(reservation_id)
    (told,) = await _with_turnovers(session, found)
    its_codes = await rows(session, CODES, reservation=reservation_id, code=None)
    return {**told, "codes": its_codes}


async def stays(session: Session, **asked: Any) -> list[dict[str, Any]]:
    """Stays of a `listing`, of a `status`, or of any where that is None; `limit` of them."""
    return await _with_turnovers(session, await rows(session, RESERVATIONS, **asked))


async def _with_turnovers(session: Session, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turnovers = await neighbours.turnovers(session, [stay["reservation_id"] for stay in found])
    return [{**s, "same_day_turnover": turnovers.get(s["reservation_id"])} for s in found]


def views() -> list[dict[str, Any]]:
    return [{"view": name, "tells": view.tells} for name, view in VIEWS.items()]


async def view(
    session: Session, name: str, reservation_id: str | None, since: timedelta | None
) -> list[dict[str, Any]]:
    """A view's rows, oldest first; of one stay, or of the time since, where asked."""
    name = name if name.startswith("audit_") else f"audit_{name}"
    if name not in VIEWS:
        raise NotFound(f"there is no view {name}: choose one of {', '.join(VIEWS)}")
    if reservation_id is not None and name == "audit_daily":
        raise InputInvalid("--reservation", "audit_daily counts days, not stays: leave it out")
    conditions, parameters = ["true"], dict[str, Any]()
    if reservation_id is not None:
        conditions.append("reservation_id = :reservation_id")
        parameters["reservation_id"] = reservation_id
    if since is not None:
        conditions.append(f"{VIEWS[name].since} >= now() - CAST(:since AS interval)")
        parameters["since"] = since
    query = f"SELECT * FROM {name} WHERE {' AND '.join(conditions)} ORDER BY {VIEWS[name].since}"  # noqa: S608  # names of ours
    return await store.rows(session, query, **parameters)


async def reveal(session: Session, sealer: Sealer, actor: str, access_code_id: int) -> Pin:
    """A code's PIN. The audit row commits with the caller's transaction, before anyone sees it."""
    code, sealed = await _code_with_pin(session, access_code_id)
    pin = sealer.open_pin(code.id, sealed)
    await store.record(session, actor, "code:revealed", code=code)
    return pin


async def verify(
    session: Session, sealer: Sealer, actor: str, access_code_id: int, pin: Pin
) -> bool:
    """Whether that is a code's PIN; on record, whatever it is. Raises NotFound."""
    code, sealed = await _code_with_pin(session, access_code_id)
    if code.pin_hash is not None:
        right = await sealer.matches(code.id, pin, code.pin_hash)
    else:  # it was never sent to its lock
        right = sealer.open_pin(code.id, sealed) == pin
    await store.record(session, actor, "code:verified", code=code, matches=right)
    return right


async def _code_with_pin(session: Session, access_code_id: int) -> tuple[AccessCode, bytes]:
    code = await session.get(AccessCode, access_code_id)
    if code is None:
        raise codes.unknown(access_code_id)
    if code.pin_sealed is None:
        raise NotFound(f"access code {access_code_id} is {code.state}: its PIN is wiped")
    return code, code.pin_sealed
