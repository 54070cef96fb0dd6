"""Rented units and the locks on their doors."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, text

from pinqueue.db import Session
from pinqueue.models import Listing, ListingLock, Lock

_SET_UP = 0x50510001_00000000
"""The advisory lock that keeps adding a listing and finding none apart. See mutex.NAMESPACE."""


async def hold_set_up(session: Session) -> None:
    """Until this transaction ends, nobody finds that a listing is missing."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SET_UP})


async def await_set_up(session: Session) -> None:
    """Let a listing that is being added appear; one added later will find what we leave."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _SET_UP})


async def listing(session: Session, listing_id: str) -> Listing | None:
    return await session.get(Listing, listing_id)


async def first_listing(session: Session, ids: Sequence[str]) -> Listing | None:
    """The first of these that there is."""
    found = await session.scalars(select(Listing).where(Listing.id.in_(ids)))
    by_id = {listing.id: listing for listing in found}
    return next((by_id[id_] for id_ in ids if id_ in by_id), None)


async def locks_of_listing(session: Session, listing_id: str) -> Sequence[Lock]:
    return (
        await session.scalars(
            select(Lock)
            .join(ListingLock, ListingLock.lock_id == Lock.id)
            .where(ListingLock.listing_id == listing_id)
            .order_by(Lock.id)
        )
    ).all()


async def lock_of_device(session: Session, device_id: str) -> Lock | None:
    lock: Lock | None = await session.scalar(select(Lock).filter_by(device_id=device_id))
    return lock
