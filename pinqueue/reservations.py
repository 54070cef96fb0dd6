"""What a booking causes: it is stored if it is newer, and the stay's access codes follow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pinqueue import codes, store
from pinqueue.db import Session
from pinqueue.errors import Conflict
from pinqueue.lifecycle import CodeState, ReservationStatus
from pinqueue.locks import Window
from pinqueue.models import Lock, Reservation
from pinqueue.schedule import check_stay, to_instant
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
    session: Session, planner: Planner, source_id: str | None, booking: Booking, now: datetime
) -> str:
    """Apply one telling of a stay. Returns `accepted`, `stale` or `unmapped` (listing unknown).

    Raises BookingInvalid for a stay that cannot be, Conflict when another source owns the stay.
    """
    booking = _not_from_the_future(booking, now)
    stay = await store.reservation_for_update(session, booking.reservation_id)
    if stay is not None and stay.source_id != source_id:
        raise Conflict(
            f"reservation {stay.id} belongs to source {stay.source_id}, not to {source_id}"
        )
    if stay is not None and booking.version <= _version(stay):
        return "stale"
    if booking.listing_id is not None and booking.status != ReservationStatus.CANCELLED:
        zone = await _zone(session, booking.listing_id)
        if zone is None:
            return "unmapped"
        values = _stay_values(booking, zone)
    else:
        values = {}
    stay = await _write(session, source_id, booking, stay, values, now)
    await plan(session, planner, stay, actor=_actor(source_id), now=now)
    return "accepted"


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
    lead = listing.lead if listing and listing.lead is not None else planner.lead
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
    if stay is None:
        created = await store.insert_reservation(
            session, id=booking.reservation_id, source_id=source_id, **values
        )
        stay = await store.reservation_for_update(session, booking.reservation_id)
        assert stay is not None  # noqa: S101  # inserted by us or by whoever was first
        if not created and booking.version <= _version(stay):
            return stay
    for column, value in values.items():
        setattr(stay, column, value)
    await session.flush()
    await store.record(
        session,
        _actor(source_id),
        f"reservation:{booking.status}",
        reservation_id=stay.id,
        event_id=booking.event_id,
    )
    return stay


def _version(stay: Reservation) -> tuple[datetime, datetime, bool, str]:
    cancelled = stay.status == ReservationStatus.CANCELLED
    return (stay.source_updated_at, stay.source_event_at, cancelled, stay.source_event_id)


def _actor(source_id: str | None) -> str:
    return f"source:{source_id}" if source_id else "api"
