"""Forgets what need not be known any more, and on request what is known of one guest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pinqueue import logs, reservations, store
from pinqueue.config import Settings
from pinqueue.db import Database, Session
from pinqueue.models import Reservation
from pinqueue.store import personal, stays

log = logs.get(__name__)

EVERY = timedelta(hours=1)
BATCH = 1000


async def forget(db: Database, settings: Settings) -> dict[str, int]:
    """All that is older than it may get; returns how many rows of each kind. A second time there is
    nothing to do."""
    counts = {
        "guests": await _all(db, personal.forget_guests, settings.keep_guests),
        "bodies": await _all(db, personal.forget_bodies, settings.keep_bodies),
        "unmapped": await _all(db, personal.forget_unmapped, settings.keep_audit),
        "audit": await _all(db, personal.forget_audit, settings.keep_audit),
    }
    if any(counts.values()):
        log.info("forgotten", **counts)
    return counts


async def export(session: Session, reservation_id: str) -> dict[str, list[dict[str, Any]]]:
    """All that is stored of a stay and its guest, by kind, without its PINs. Raises NotFound."""
    return await personal.of_a_stay(session, await _held(session, reservation_id))


async def erase(session: Session, actor: str, reservation_id: str) -> None:
    """Forget the guest of a stay now. The stay and its PIN go on; should its sender tell of it
    again, it tells of the guest again. Raises NotFound."""
    stay = await _held(session, reservation_id)
    await personal.erase_guest(session, stay)
    await store.record(session, actor, "reservation:erased", reservation_id=stay.id)


async def _held(session: Session, reservation_id: str) -> Reservation:
    stay = await stays.reservation_for_update(session, reservation_id)
    if stay is None:
        raise reservations.unknown(reservation_id)
    return stay


async def _all(
    db: Database, step: Callable[[Session, timedelta, int], Awaitable[int]], kept: timedelta
) -> int:
    """Batch by batch, each committed, so that nobody waits for long."""
    done, more = 0, True
    while more:
        async with db.transaction() as session:
            count = await step(session, kept, BATCH)
        done, more = done + count, count == BATCH
    return done
