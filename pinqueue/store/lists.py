"""What the API lists: reservations, access codes, and what a deployment is set up with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from pinqueue.db import Session
from pinqueue.models import AccessCode, Reservation
from pinqueue.store import rows


async def reservation(session: Session, reservation_id: str) -> Reservation | None:
    return await session.get(Reservation, reservation_id)


async def reservations(
    session: Session, *, listing_id: str | None, status: str | None, after: str | None, limit: int
) -> Sequence[Reservation]:
    """By id, beginning after one: an order that nothing changes and an index keeps."""
    wanted = select(Reservation).order_by(Reservation.id).limit(limit)
    if listing_id is not None:
        wanted = wanted.where(Reservation.listing_id == listing_id)
    if status is not None:
        wanted = wanted.where(Reservation.status == status)
    if after is not None:
        wanted = wanted.where(Reservation.id > after)
    return (await session.scalars(wanted)).all()


async def codes(session: Session, reservation_id: str) -> Sequence[AccessCode]:
    """A stay's access codes, ended ones too, oldest first."""
    return (
        await session.scalars(
            select(AccessCode).filter_by(reservation_id=reservation_id).order_by(AccessCode.id)
        )
    ).all()


async def locks(session: Session, lock_id: str | None = None) -> list[dict[str, Any]]:
    """All locks with the listings they belong to, or one."""
    return await rows(
        session,
        """
        SELECT lock.id, lock.device_id, lock.protocol, lock.created_at, lock.patrolled_at,
               lock.patrol_fault AS fault,
               ARRAY(SELECT link.listing_id FROM listing_locks link
                     WHERE link.lock_id = lock.id ORDER BY 1) AS listings
        FROM locks lock WHERE lock.id = coalesce(:lock_id, lock.id) ORDER BY lock.id
        """,
        lock_id=lock_id,
    )


async def listings(session: Session, listing_id: str | None = None) -> list[dict[str, Any]]:
    """All listings with their locks, or one."""
    return await rows(
        session,
        """
        SELECT listing.id, listing.time_zone, listing.lead, listing.created_at,
               ARRAY(SELECT link.lock_id FROM listing_locks link
                     WHERE link.listing_id = listing.id ORDER BY 1) AS locks
        FROM listings listing WHERE listing.id = coalesce(:listing_id, listing.id)
        ORDER BY listing.id
        """,
        listing_id=listing_id,
    )


async def sources(session: Session, source_id: str | None = None) -> list[dict[str, Any]]:
    """All webhook senders, or one; without their secrets."""
    return await rows(
        session,
        """
        SELECT id, kind, enabled, previous_secret_until, created_at
        FROM sources WHERE id = coalesce(:source_id, id) ORDER BY id
        """,
        source_id=source_id,
    )
