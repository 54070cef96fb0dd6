"""Reservations: held for planning, and found by what else is known of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from pinqueue.db import Session
from pinqueue.lifecycle import CODE_ENDED, ReservationStatus
from pinqueue.models import AccessCode, Listing, ListingLock, Reservation
from pinqueue.store import held

BUFFER_MOST = timedelta(days=1)
"""A PIN may open so long after check-out."""


async def reservation_for_update(session: Session, reservation_id: str) -> Reservation | None:
    """The reservation, held so that events of one stay are applied one after the other."""
    row: Reservation | None = await session.scalar(
        held(select(Reservation).where(Reservation.id == reservation_id))
    )
    return row


async def hold_listing_of(session: Session, reservation_id: str) -> None:
    """The listing of a stay, held before the stay is. Who changes a listing holds it first and then
    wants its stays; who changes a stay twice in a transaction has its foreign key checked at the
    second time, which wants the listing: each would wait for the other."""
    listing_id = select(Reservation.listing_id).where(Reservation.id == reservation_id)
    await session.execute(
        select(Listing.id)
        .where(Listing.id == listing_id.scalar_subquery())
        .with_for_update(read=True, key_share=True)
    )


async def hold_stays(session: Session, ids: Collection[str]) -> None:
    """Several reservations, held in the order in which everybody holds several."""
    await session.execute(
        held(select(Reservation).where(Reservation.id.in_(ids)).order_by(Reservation.id))
    )


async def stays_at_lock(session: Session, lock_id: str) -> Sequence[Reservation]:
    """The stays that have or want a PIN on a lock, held for planning. Its listings are held before,
    FOR UPDATE: a booking of one waits at its foreign key, so none that is under way escapes."""
    listings = select(ListingLock.listing_id).where(ListingLock.lock_id == lock_id)
    await session.execute(
        select(Listing).where(Listing.id.in_(listings)).order_by(Listing.id).with_for_update()
    )
    live = select(AccessCode.reservation_id).where(
        AccessCode.lock_id == lock_id, AccessCode.state.not_in(CODE_ENDED)
    )
    wanted = Reservation.listing_id.in_(listings) & _ahead()
    found = await session.scalars(
        held(
            select(Reservation)
            .where(or_(Reservation.id.in_(live), wanted))
            .order_by(Reservation.id)
        )
    )
    return found.all()


async def upcoming_stays(session: Session, listing_id: str) -> Sequence[Reservation]:
    """The confirmed stays of a listing that have not ended, held for planning."""
    return (
        await session.scalars(
            held(
                select(Reservation)
                .where(Reservation.listing_id == listing_id, _ahead())
                .order_by(Reservation.id)
            )
        )
    ).all()


def _ahead() -> ColumnElement[bool]:
    """Of a stay: it is confirmed and has not ended."""
    ends_at = func.coalesce(Reservation.late_check_out_at, Reservation.check_out_at)
    return (Reservation.status == ReservationStatus.CONFIRMED) & (
        ends_at > func.now() - BUFFER_MOST
    )


async def stays_to_come(session: Session, source_id: str) -> int:
    """The confirmed stays of a source that have not ended."""
    count: int | None = await session.scalar(
        select(func.count()).where(
            Reservation.source_id == source_id,
            Reservation.status == ReservationStatus.CONFIRMED,
            Reservation.check_out_at > func.now(),
        )
    )
    return count or 0


_EITHER_ID = 0x50510003
"""The advisory locks that keep two tellings of one stay apart, each by another of its ids."""


async def reservation_by_either_id(session: Session, ids: Sequence[str]) -> str | None:
    """Our id of the stay that is known by one of these; held until this transaction ends, so that
    no other makes a second stay of it. One that is known by both its ids comes first."""
    for id_ in sorted(ids):
        query = text("SELECT pg_advisory_xact_lock(:space, hashtext(:id))")
        await session.execute(query, {"space": _EITHER_ID, "id": id_})
    found: str | None = await session.scalar(
        select(Reservation.id)
        .where(or_(Reservation.id.in_(ids), Reservation.other_id.in_(ids)))
        .order_by(Reservation.other_id.is_(None), Reservation.updated_at.desc())
        .limit(1)
    )
    return found


async def rooms_of(session: Session, source_id: str, reservation_id: str) -> Sequence[str]:
    """The stays that are rooms of one reservation of a source, the cancelled ones left out."""
    mine = or_(
        Reservation.id == reservation_id,
        Reservation.id.startswith(f"{reservation_id}-", autoescape=True),
    )
    live = Reservation.status != ReservationStatus.CANCELLED
    return (
        await session.scalars(
            select(Reservation.id)
            .where(Reservation.source_id == source_id, mine, live)
            .order_by(Reservation.id)
        )
    ).all()


async def insert_reservation(session: Session, **values: Any) -> bool:
    """False when another transaction was first to create it."""
    inserted = await session.scalar(
        insert(Reservation)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(Reservation.id)
    )
    return inserted is not None
