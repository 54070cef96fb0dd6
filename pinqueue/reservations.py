"""What a booking causes: it is stored if it is newer, and the stay's access codes follow it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pinqueue import codes, store
from pinqueue.db import Session
from pinqueue.errors import Conflict, NotFound
from pinqueue.lifecycle import CodeState, OperationKind, ReservationStatus
from pinqueue.locks import Window
from pinqueue.models import Lock, Reservation
from pinqueue.schedule import check_lead, check_stay, to_instant
from pinqueue.sealing import Sealer


@dataclass(frozen=True)
class Booking:
    """A stay as its sender tells it. Times are the sender's own text: only the listing's zone makes
    instants of them. What a cancel does not repeat is None."""

    reservation_id: str
    status: ReservationStatus
    updated_at: datetime
    """When the sender last changed the stay: a booking with an older one is stale."""
    event_at: datetime
    event_id: str
    listing_id: str | None = None
    check_in: str | None = None
    check_out: str | None = None
    guest_name: str | None = None
    guest_phone: str | None = None
    lead: timedelta | None = None
    """The stay's own; None leaves it as it is."""

    @property
    def version(self) -> tuple[datetime, datetime, bool, str]:
        """Orders any two tellings of one stay the same way, in whatever order they arrive."""
        cancels = self.status == ReservationStatus.CANCELLED
        return (self.updated_at, self.event_at, cancels, self.event_id)


@dataclass(frozen=True)
class Planner:
    """What planning needs besides the rows."""

    sealer: Sealer
    lead: timedelta


async def receive(
    session: Session,
    planner: Planner,
    source_id: str | None,
    booking: Booking,
    now: datetime,
    *,
    actor: str | None = None,
) -> str:
    """Apply one telling of a stay. Returns `accepted`, `stale` or `unmapped` (listing unknown).

    Raises BookingInvalid for a stay that cannot be, Conflict when another source owns the stay.
    """
    stay = await store.reservation_for_update(session, booking.reservation_id)
    if stay is not None:
        _insist_owner(stay, source_id)
    if source_id is not None:
        booking = _not_from_the_future(booking, now)
    if stay is not None and booking.version <= _version(stay):
        return "stale"
    if booking.listing_id is not None and booking.status != ReservationStatus.CANCELLED:
        zone = await _zone(session, booking.listing_id)
        if zone is None:
            return "unmapped"
        values = _stay_values(booking, zone)
    else:
        values = {}
    actor = actor or (f"source:{source_id}" if source_id else "api")
    stay = await _write(session, source_id, actor, booking, stay, values, now)
    await plan(session, planner, stay, actor=actor, now=now)
    return "accepted"


async def put(
    session: Session, planner: Planner, actor: str, booking: Booking, now: datetime
) -> Reservation:
    """Create or change a stay that has no source. Nothing makes it stale: who calls knows what is
    wanted now. Raises NotFound (listing), Conflict (a source owns it), BookingInvalid."""
    if await _zone(session, booking.listing_id or "") is None:
        raise NotFound(f"there is no listing {booking.listing_id}: add it first")
    stay = await store.reservation_for_update(session, booking.reservation_id)
    if stay is not None and stay.source_id is None:
        booking = replace(booking, **_newest(stay, now))
    await receive(session, planner, None, booking, now, actor=actor)
    return await _stay(session, booking.reservation_id)


async def confirm(
    session: Session, planner: Planner, actor: str, reservation_id: str, now: datetime
) -> Reservation:
    """Confirm a stay and schedule its PINs, also where they were withheld or it was cancelled.
    Raises NotFound, and Conflict for a stay whose dates nobody told. Twice is as once."""
    stay = await _stay(session, reservation_id)
    if stay.listing_id is None:
        raise Conflict(f"reservation {stay.id} was cancelled before its dates were told")
    if stay.status != ReservationStatus.CONFIRMED:
        await _tell(session, actor, stay, ReservationStatus.CONFIRMED, now)
    stay.pins_withheld_at = None
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def cancel(
    session: Session, planner: Planner, actor: str, reservation_id: str, now: datetime
) -> Reservation:
    """Cancel a stay: its PINs come off, or are never put on. Raises NotFound. Twice is as once."""
    stay = await _stay(session, reservation_id)
    if stay.status != ReservationStatus.CANCELLED:
        await _tell(session, actor, stay, ReservationStatus.CANCELLED, now)
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def schedule(
    session: Session,
    planner: Planner,
    actor: str,
    reservation_id: str,
    now: datetime,
    *,
    check_in: str | None = None,
    check_out: str | None = None,
    lead: timedelta | None = None,
) -> Reservation:
    """Schedule a confirmed stay's PINs, again where they were withheld, with other dates or another
    lead where given. Raises NotFound, BookingInvalid, and Conflict for a stay not confirmed."""
    stay = await _stay(session, reservation_id)
    if stay.status != ReservationStatus.CONFIRMED or stay.listing_id is None:
        raise Conflict(f"reservation {stay.id} is {stay.status}: confirm it first")
    zone = await _zone(session, stay.listing_id) or ZoneInfo("UTC")
    if check_in is not None:
        stay.check_in_at = to_instant("check_in", check_in, zone, gap="start")
    if check_out is not None:
        stay.check_out_at = to_instant("check_out", check_out, zone, gap="end")
    if stay.check_in_at is not None and stay.check_out_at is not None:
        check_stay(stay.check_in_at, stay.check_out_at)
    if lead is not None:
        stay.lead = check_lead(lead)
    stay.pins_withheld_at, stay.updated_at = None, now
    await session.flush()
    await store.record(session, actor, "reservation:scheduled", reservation_id=stay.id)
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def withhold(
    session: Session, actor: str, reservation_id: str, now: datetime
) -> set[OperationKind]:
    """Take back a stay's PINs until they are scheduled again, whatever its status.

    Returns the kinds of operation that were planned and will not happen as planned; empty where
    there were none, and where there is no such stay.
    """
    stay = await store.reservation_for_update(session, reservation_id)
    if stay is None:
        return set()
    cancelled: set[OperationKind] = set()
    for code in await store.live_codes(session, stay.id):
        cancelled |= await codes.withdraw(session, actor, code, now=now)
    if stay.status != ReservationStatus.CANCELLED and stay.pins_withheld_at is None:
        stay.pins_withheld_at = now
        await session.flush()
        await store.record(session, actor, "reservation:pins_withheld", reservation_id=stay.id)
    return cancelled


async def plan(
    session: Session, planner: Planner, stay: Reservation, *, actor: str, now: datetime
) -> None:
    """Make the stay's access codes what the stay wants now. Doing it twice changes nothing more."""
    wanted = await _wanted(session, stay, now)
    have = {code.lock_id: code for code in await store.live_codes(session, stay.id)}
    for lock_id, code in have.items():
        if lock_id not in wanted:
            await codes.withdraw(session, actor, code, now=now)
    if not wanted:
        return
    window, lead = await _window_and_lead(session, planner, stay)
    kept = {
        lock_id: code
        for lock_id, code in have.items()
        if lock_id in wanted and code.state != CodeState.REVOKING
    }
    for code in kept.values():
        await codes.move(session, actor, code, window, lead=lead, now=now)
    new = [lock for lock_id, lock in wanted.items() if lock_id not in have]
    if new:
        await codes.schedule(
            session, planner.sealer, actor, stay.id, new, window, lead=lead, now=now
        )
    if others := await store.overlapping_stays(session, stay, limit=10):
        await store.record(
            session, actor, "reservation:overlaps", reservation_id=stay.id, others=list(others)
        )


def _not_from_the_future(booking: Booking, now: datetime) -> Booking:
    """A version far ahead would make everything told later stale, the cancel too."""
    return replace(
        booking,
        updated_at=min(booking.updated_at, now),
        event_at=min(booking.event_at, now),
    )


async def _wanted(session: Session, stay: Reservation, now: datetime) -> dict[str, Lock]:
    """The locks the guest must be able to open, by id; none once the stay is over or off."""
    if stay.status != ReservationStatus.CONFIRMED or stay.listing_id is None:
        return {}
    if stay.pins_withheld_at is not None:
        return {}
    if stay.check_out_at is None or stay.check_out_at <= now:
        return {}
    return {lock.id: lock for lock in await store.locks_of_listing(session, stay.listing_id)}


async def _window_and_lead(
    session: Session, planner: Planner, stay: Reservation
) -> tuple[Window, timedelta]:
    # Only a tombstone lacks these, says a CHECK, and a tombstone wants no lock.
    assert stay.listing_id is not None  # noqa: S101
    assert stay.check_in_at is not None  # noqa: S101
    assert stay.check_out_at is not None  # noqa: S101
    listing = await store.listing(session, stay.listing_id)
    leads = (stay.lead, listing.lead if listing else None, planner.lead)
    lead = next(lead for lead in leads if lead is not None)
    return Window(stay.check_in_at, stay.check_out_at), lead


async def _zone(session: Session, listing_id: str) -> ZoneInfo | None:
    listing = await store.listing(session, listing_id)
    if listing is None:
        await store.await_set_up(session)
        listing = await store.listing(session, listing_id)
    return ZoneInfo(listing.time_zone) if listing else None


def _stay_values(booking: Booking, zone: ZoneInfo) -> dict[str, object]:
    check_in = to_instant("check_in", booking.check_in or "", zone, gap="start")
    check_out = to_instant("check_out", booking.check_out or "", zone, gap="end")
    check_stay(check_in, check_out)
    return {
        "listing_id": booking.listing_id,
        "check_in_at": check_in,
        "check_out_at": check_out,
        "guest_name": booking.guest_name,
        "guest_phone": booking.guest_phone,
    }


async def _write(
    session: Session,
    source_id: str | None,
    actor: str,
    booking: Booking,
    stay: Reservation | None,
    values: dict[str, object],
    now: datetime,
) -> Reservation:
    cancelled = booking.status == ReservationStatus.CANCELLED
    values = {
        **values,
        "status": booking.status,
        "source_updated_at": booking.updated_at,
        "source_event_at": booking.event_at,
        "source_event_id": booking.event_id,
        "cancelled_at": now if cancelled else None,
        "updated_at": now,
    }
    if booking.lead is not None:
        values["lead"] = booking.lead
    if stay is not None and stay.status != booking.status:
        values["pins_withheld_at"] = None  # withheld from the stay as it was, not from a new one
    if stay is None:
        created = await store.insert_reservation(
            session, id=booking.reservation_id, source_id=source_id, **values
        )
        stay = await store.reservation_for_update(session, booking.reservation_id)
        assert stay is not None  # noqa: S101  # inserted by us or by whoever was first
        _insist_owner(stay, source_id)
        if not created and booking.version <= _version(stay):
            return stay
    for column, value in values.items():
        setattr(stay, column, value)
    await session.flush()
    await store.record(
        session,
        actor,
        f"reservation:{booking.status}",
        reservation_id=stay.id,
        event_id=booking.event_id,
    )
    return stay


def _version(stay: Reservation) -> tuple[datetime, datetime, bool, str]:
    cancelled = stay.status == ReservationStatus.CANCELLED
    return (stay.source_updated_at, stay.source_event_at, cancelled, stay.source_event_id)


def _insist_owner(stay: Reservation, source_id: str | None) -> None:
    if stay.source_id != source_id:
        owner = f"source {stay.source_id}" if stay.source_id else "the API"
        raise Conflict(f"reservation {stay.id} belongs to {owner}: change it there")


async def _stay(session: Session, reservation_id: str) -> Reservation:
    stay = await store.reservation_for_update(session, reservation_id)
    if stay is None:
        raise NotFound(f"there is no reservation {reservation_id}")
    return stay


async def _tell(
    session: Session, actor: str, stay: Reservation, status: ReservationStatus, now: datetime
) -> None:
    """Give a stay another status, as the newest thing told about it."""
    for column, value in _newest(stay, now).items():
        setattr(stay, f"source_{column}", value)
    stay.status, stay.updated_at, stay.pins_withheld_at = status, now, None
    stay.cancelled_at = now if status == ReservationStatus.CANCELLED else None
    await session.flush()
    await store.record(session, actor, f"reservation:{status}", reservation_id=stay.id)


def _newest(stay: Reservation, now: datetime) -> dict[str, Any]:
    """A version that comes after everything told so far."""
    return {
        "updated_at": max(stay.source_updated_at + timedelta(microseconds=1), now),
        "event_at": now,
        "event_id": secrets.token_hex(8),
    }
