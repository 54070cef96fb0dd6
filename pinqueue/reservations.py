"""What a booking causes: it is stored if it is newer, and the stay's access codes follow it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pinqueue import codes, columns, store, tellings
from pinqueue.db import Session
from pinqueue.errors import BookingInvalid, Conflict, InputInvalid, NotFound
from pinqueue.lifecycle import CodeState, OperationKind, ReservationStatus
from pinqueue.locks import Window
from pinqueue.models import AccessCode, Listing, Lock, Reservation, Source
from pinqueue.schedule import check_lead, check_stay, turns_over
from pinqueue.sealing import Sealer
from pinqueue.store import access_codes, listings, neighbours, stays
from pinqueue.store.neighbours import Neighbour
from pinqueue.tellings import Telling, Version

FIELDS = ("status", "listing_id", "check_in", "check_out", "guest_name", "guest_phone", "other_id")
"""What a sender tells of a stay, each field of which its newest telling counts."""
WHOLE = {"status", "listing_id", "check_in", "check_out"}
"""Without these it is not yet a stay."""


@dataclass(frozen=True)
class Booking:
    """A stay as its sender tells it. Times are the sender's own text: only the listing's zone makes
    instants of them, and its default times of dates. What the sender left out is None, and stays
    as it was told before."""

    reservation_id: str
    status: ReservationStatus | None
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
    other_id: str | None = None
    """A second id that the sender has for the stay, where its events may tell either."""

    @property
    def telling(self) -> Telling:
        """A cancel tells that, and nothing of the stay that is off: its dates may be anything."""
        cancels = self.status == ReservationStatus.CANCELLED
        told = ("status", "other_id") if cancels else FIELDS
        fields = {name: getattr(self, name) for name in told}
        version = Version(self.updated_at, self.event_at, cancels, self.event_id)
        return Telling(
            version, {name: str(text) for name, text in fields.items() if text is not None}
        )


LONGEST_ID = 128


def check_id(field: str, text: str) -> None:
    """Raise InputInvalid for an id that could not be told, listed and asked for everywhere."""
    if not (0 < len(text) <= LONGEST_ID) or text != text.strip() or not text.isprintable():
        raise InputInvalid(
            field,
            f"must be 1 to {LONGEST_ID} characters, without spaces around it or control characters",
        )


def own_id(source: Source, reservation_id: str) -> str:
    """Our id of a sender's reservation. Property systems count theirs, so two of them use the same:
    the source's name goes before it. Our own kind's ids are the sender's to choose."""
    return reservation_id if source.kind == "pinqueue" else f"{source.id}:{reservation_id}"


TWO_IDS = frozenset({"stays"})
"""The kinds of source whose events name a stay by either of two ids."""


async def under_own_id(session: Session, source: Source, booking: Booking) -> Booking:
    """The booking under our id of its stay: the one it is known by, where the sender has two."""
    own = own_id(source, booking.reservation_id)
    if source.kind not in TWO_IDS:
        return replace(booking, reservation_id=own)
    other = own_id(source, booking.other_id) if booking.other_id else None
    ids = [own, other] if other else [own]
    known = await stays.reservation_by_either_id(session, ids)
    if known is not None and known == other:
        other = own
    return replace(booking, reservation_id=known or own, other_id=other)


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
    only_if_other: bool = False,
) -> str:
    """Apply one telling of a stay. Returns `accepted`, `stale`, `unmapped` (listing unknown) or
    `incomplete` (with all that was told it is no stay yet, or one that cannot be: it is kept, and
    the stay as it was); `unchanged` where `only_if_other` asks to leave alone a stay of which
    nothing new is told.

    Raises BookingInvalid for a telling that cannot be, Conflict when another source owns the stay.
    """
    stay = await stays.reservation_for_update(session, booking.reservation_id)
    if stay is not None:
        _insist_owner(stay, source_id)
    if source_id is not None:
        booking = _not_from_the_future(booking, now)
    before = tellings.load(stay.told) if stay else []
    telling = booking.telling
    if not tellings.current([*before, telling]).keys() >= WHOLE:
        telling = columns.without_unreadable_dates(telling)
    if not telling.fields:
        return "accepted" if stay else "incomplete"
    told = tellings.merge(before, telling)
    if told == before:
        return "stale"
    wanted = tellings.current(told)
    listing = await _listing(session, source_id, wanted.get("listing_id"))
    if listing is None and "listing_id" in wanted:
        return "unmapped"
    columns.check_told(telling, listing)
    values = columns.of(wanted, listing, stay)
    if only_if_other and stay is not None and columns.same(stay, values):
        stay.told = tellings.dump(told)
        return "unchanged"
    values |= columns.history(stay, told, values, now)
    if booking.lead is not None:
        values["lead"] = booking.lead
    if stay is not None:
        await _set(session, stay, values)
    elif not await stays.insert_reservation(
        session, id=booking.reservation_id, source_id=source_id, **values
    ):  # another telling of it was first: ours comes on top of it, or under it
        return await receive(
            session, planner, source_id, booking, now, actor=actor, only_if_other=only_if_other
        )
    stay = await _stay(session, booking.reservation_id)
    actor = actor or (f"source:{source_id}" if source_id else "api")
    whole = wanted.keys() >= WHOLE and "check_in_at" in values
    outcome = _outcome(stay, whole=whole, newest=told[0].version == telling.version)
    if outcome == "accepted":
        await store.record(
            session,
            actor,
            f"reservation:{stay.status}",
            reservation_id=stay.id,
            event_id=booking.event_id,
        )
    await plan(session, planner, stay, actor=actor, now=now)
    return outcome


def new_stay(
    source_id: str, booking: Booking, listing: Listing, now: datetime
) -> dict[str, Any] | None:
    """The columns of a stay that nobody knew, where it is told whole and confirmed; None for all
    else, which `receive` is for."""
    booking = _not_from_the_future(booking, now)
    told = tellings.merge([], booking.telling)
    wanted = tellings.current(told)
    if not wanted.keys() >= WHOLE or wanted["status"] != ReservationStatus.CONFIRMED:
        return None
    try:
        columns.check_told(told[0], listing)
    except BookingInvalid:
        return None
    values = columns.of(wanted, listing, None)
    return {
        "id": booking.reservation_id,
        "source_id": source_id,
        **values,
        **columns.history(None, told, values, now),
    }


def _outcome(stay: Reservation, *, whole: bool, newest: bool) -> str:
    if stay.status == ReservationStatus.CANCELLED:
        return "accepted" if newest else "stale"  # a stay that is off learns its dates, and is off
    return "accepted" if whole else "incomplete"


async def put(
    session: Session, planner: Planner, actor: str, booking: Booking, now: datetime
) -> Reservation:
    """Create or change a stay that has no source. Nothing makes it stale: who calls knows what is
    wanted now. Raises NotFound (listing), Conflict (a source owns it), BookingInvalid."""
    check_id("reservation", booking.reservation_id)
    if await _listing(session, None, booking.listing_id) is None:
        raise NotFound(
            f"there is no listing {booking.listing_id}: `pinqueue listings add` makes one"
        )
    stay = await stays.reservation_for_update(session, booking.reservation_id)
    if stay is not None and stay.source_id is None:
        newest = _newest(stay, now)
        booking = replace(
            booking,
            updated_at=newest.updated_at,
            event_at=newest.event_at,
            event_id=newest.event_id,
        )
    await receive(session, planner, None, booking, now, actor=actor)
    return await _stay(session, booking.reservation_id)


async def confirm(
    session: Session, planner: Planner, actor: str, reservation_id: str, now: datetime
) -> Reservation:
    """Confirm a stay and schedule its PINs, also where they were withheld or it was cancelled.
    Raises NotFound, and Conflict for a stay whose dates nobody told. Twice is as once."""
    await stays.hold_listing_of(session, reservation_id)
    stay = await _stay(session, reservation_id)
    if stay.listing_id is None:
        raise Conflict(f"reservation {stay.id} has no dates: its sender has not told them yet")
    if stay.status != ReservationStatus.CONFIRMED:
        await _tell_status(session, actor, stay, ReservationStatus.CONFIRMED, now)
    stay.pins_withheld_at = None
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def cancel(
    session: Session, planner: Planner, actor: str, reservation_id: str, now: datetime
) -> Reservation:
    """Cancel a stay: its PINs come off, or are never put on. Raises NotFound. Twice is as once."""
    await stays.hold_listing_of(session, reservation_id)
    stay = await _stay(session, reservation_id)
    if stay.status != ReservationStatus.CANCELLED:
        await _tell_status(session, actor, stay, ReservationStatus.CANCELLED, now)
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
    await stays.hold_listing_of(session, reservation_id)
    stay = await _stay(session, reservation_id)
    if stay.status != ReservationStatus.CONFIRMED or stay.listing_id is None:
        raise Conflict(f"reservation {stay.id} is {stay.status}: confirm it first")
    await _tell(session, stay, now, check_in=check_in, check_out=check_out)
    if lead is not None:
        stay.lead = check_lead(lead)
    stay.pins_withheld_at, stay.updated_at = None, now
    await session.flush()
    await store.record(session, actor, "reservation:scheduled", reservation_id=stay.id)
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def grant(
    session: Session,
    planner: Planner,
    actor: str,
    reservation_id: str,
    now: datetime,
    *,
    early_check_in: str | None = None,
    late_check_out: str | None = None,
) -> Reservation:
    """Let a guest in earlier, or out later, than was booked: a time, or "" to take it back. The
    listing's buffers go before and after it as they do with a booked time. It ends when the sender
    tells another date. Raises NotFound, Conflict, and BookingInvalid for an early check-in after
    check-in, or a late check-out before check-out."""
    await stays.hold_listing_of(session, reservation_id)
    stay = await _stay(session, reservation_id)
    if stay.listing_id is None or stay.check_in_at is None or stay.check_out_at is None:
        raise Conflict(f"reservation {stay.id} has no dates: its sender has not told them yet")
    listing = await listings.listing(session, stay.listing_id)
    assert listing is not None  # noqa: S101  # a foreign key says so
    if early_check_in is not None:
        early = (
            columns.read_check_in(listing, early_check_in, "early_check_in")
            if early_check_in
            else None
        )
        if early is not None and early > stay.check_in_at:
            raise BookingInvalid("early_check_in", "must be before check_in")
        stay.early_check_in_at = early
    if late_check_out is not None:
        late = (
            columns.read_check_out(listing, late_check_out, "late_check_out")
            if late_check_out
            else None
        )
        if late is not None and late < stay.check_out_at:
            raise BookingInvalid("late_check_out", "must be after check_out")
        stay.late_check_out_at = late
    check_stay(
        stay.early_check_in_at or stay.check_in_at, stay.late_check_out_at or stay.check_out_at
    )
    stay.updated_at = now
    await session.flush()
    await store.record(
        session,
        actor,
        "reservation:granted",
        reservation_id=stay.id,
        early_check_in_at=stay.early_check_in_at and stay.early_check_in_at.isoformat(),
        late_check_out_at=stay.late_check_out_at and stay.late_check_out_at.isoformat(),
    )
    await plan(session, planner, stay, actor=actor, now=now)
    return stay


async def withhold(
    session: Session, actor: str, reservation_id: str, now: datetime
) -> set[OperationKind]:
    """Take back a stay's PINs until they are scheduled again, whatever its status.

    Returns the kinds of operation that were planned and will not happen as planned; empty where
    there were none, and where there is no such stay.
    """
    await stays.hold_listing_of(session, reservation_id)
    stay = await stays.reservation_for_update(session, reservation_id)
    if stay is None:
        return set()
    cancelled: set[OperationKind] = set()
    for code in await access_codes.live_codes(session, stay.id):
        cancelled |= await codes.withdraw(session, actor, code, now=now)
    if stay.status != ReservationStatus.CANCELLED and stay.pins_withheld_at is None:
        stay.pins_withheld_at = now
        await session.flush()
        await store.record(session, actor, "reservation:pins_withheld", reservation_id=stay.id)
    return cancelled


async def reissue(
    session: Session,
    planner: Planner,
    actor: str,
    reservation_id: str,
    now: datetime,
    *,
    dry_run: bool = False,
) -> Sequence[AccessCode]:
    """Give a stay another PIN on all its doors: see `codes.reissue`. Returns its codes as they are
    now. Raises NotFound, and Conflict where no PIN is wanted, or none is there."""
    await stays.hold_listing_of(session, reservation_id)
    stay = await _stay(session, reservation_id)
    live = await access_codes.live_codes(session, stay.id)
    if not live:
        raise Conflict(f"reservation {stay.id} has no PIN that another could take the place of")
    await codes.reissue_all(session, planner.sealer, actor, stay, live, now=now, dry_run=dry_run)
    return live


async def plan(
    session: Session, planner: Planner, stay: Reservation, *, actor: str, now: datetime
) -> None:
    """Make the stay's access codes what the stay wants now. Doing it twice changes nothing more."""
    wish = await _wish(session, planner, stay, now)
    have = {code.lock_id: code for code in await access_codes.live_codes(session, stay.id)}
    new = [lock for lock_id, lock in (wish.locks if wish else {}).items() if lock_id not in have]
    # The guest may know his PIN since the booking. A code that is withdrawn here, because he moves
    # to another room, loses its digits at once if it is not on a door yet.
    kept = codes.pins_of(planner.sealer, have.values()) if new else {}
    for lock_id, code in have.items():
        if wish is None or lock_id not in wish.locks:
            await codes.withdraw(session, actor, code, now=now)
    if wish is None:
        return
    for lock_id, code in have.items():
        if lock_id in wish.locks and code.state != CodeState.REVOKING:
            await codes.move(session, actor, code, wish.window, lead=wish.lead, now=now)
    if new:
        await codes.schedule(
            session,
            planner.sealer,
            actor,
            stay.id,
            new,
            wish.window,
            lead=wish.lead,
            now=now,
            kept=kept,
        )
    listing = await listings.listing(session, stay.listing_id or "")
    assert listing is not None  # noqa: S101  # only what is wished for gets so far
    for own, others in (await neighbours.neighbours(session, [stay.id])).values():
        await tell_of_neighbours(session, actor, listing, own, others)


async def tell_of_neighbours(
    session: Session, actor: str, listing: Listing, own: Neighbour, others: Sequence[Neighbour]
) -> None:
    """What an operator should know of a stay: that it overlaps others, and that one ends on the day
    on which another begins."""
    overlaps = [o.id for o in others if o.starts_at < own.ends_at and o.ends_at > own.starts_at]
    if overlaps:
        await store.record(
            session, actor, "reservation:overlaps", reservation_id=own.id, others=overlaps[:10]
        )
    zone = ZoneInfo(listing.time_zone)
    for leaves, arrives in [pair for other in others for pair in ((own, other), (other, own))]:
        if turns_over(leaves.check_in_at, leaves.check_out_at, arrives.check_in_at, zone):
            await neighbours.record_turnover(session, actor, leaves.id, arrives.id)


def _not_from_the_future(booking: Booking, now: datetime) -> Booking:
    """A version far ahead would make everything told later stale, the cancel too."""
    return replace(
        booking,
        updated_at=min(booking.updated_at, now),
        event_at=min(booking.event_at, now),
    )


@dataclass(frozen=True)
class Wish:
    """What a guest needs: the locks to open, by id, when, and how early they are told."""

    locks: dict[str, Lock]
    window: Window
    lead: timedelta


async def _wish(
    session: Session, planner: Planner, stay: Reservation, now: datetime
) -> Wish | None:
    """None for a stay that is over, off, withheld, or has no locks."""
    if stay.status != ReservationStatus.CONFIRMED or stay.pins_withheld_at is not None:
        return None
    assert stay.listing_id is not None  # noqa: S101  # a CHECK says so of what is confirmed
    listing = await listings.listing(session, stay.listing_id)
    assert listing is not None  # noqa: S101  # a foreign key says so
    assert stay.check_in_at is not None  # noqa: S101  # the same CHECK
    assert stay.check_out_at is not None  # noqa: S101  # the same CHECK
    arrives = stay.early_check_in_at or stay.check_in_at
    leaves = stay.late_check_out_at or stay.check_out_at
    locks = await listings.locks_of_listing(session, listing.id)
    return wish(planner, listing, locks, Window(arrives, leaves), stay.lead, now)


def wish(
    planner: Planner,
    listing: Listing,
    locks: Sequence[Lock],
    stay: Window,
    lead: timedelta | None,
    now: datetime,
) -> Wish | None:
    """Of a confirmed stay with that lead of its own, given what its listing has; None once it is
    over."""
    starts_at, ends_at = stay.starts_at - listing.buffer_before, stay.ends_at + listing.buffer_after
    if ends_at <= now or not locks:
        return None
    return Wish(
        {lock.id: lock for lock in locks},
        Window(starts_at, ends_at),
        next(one for one in (lead, listing.lead, planner.lead) if one is not None),
    )


async def _listing(
    session: Session, source_id: str | None, listing_id: str | None
) -> Listing | None:
    """The listing by the sender's id for it: where two senders use the same id, the listing is
    called SOURCE:ID. None where there is none, and where none was told."""
    if listing_id is None:
        return None
    names = [f"{source_id}:{listing_id}", listing_id]
    found = await listings.first_listing(session, names)
    if found is None:
        await listings.await_set_up(session)
        found = await listings.first_listing(session, names)
    return found


async def _set(session: Session, stay: Reservation, values: dict[str, object]) -> None:
    for column, value in values.items():
        setattr(stay, column, value)
    await session.flush()


def _insist_owner(stay: Reservation, source_id: str | None) -> None:
    if stay.source_id != source_id:
        owner = f"source {stay.source_id}" if stay.source_id else "the API"
        raise Conflict(f"reservation {stay.id} belongs to {owner}: change it there")


async def _stay(session: Session, reservation_id: str) -> Reservation:
    stay = await stays.reservation_for_update(session, reservation_id)
    if stay is None:
        raise unknown(reservation_id)
    return stay


def unknown(reservation_id: str) -> NotFound:
    return NotFound(
        f"there is no reservation {reservation_id}: `pinqueue reservations list` shows them"
    )


async def _tell_status(
    session: Session, actor: str, stay: Reservation, status: ReservationStatus, now: datetime
) -> None:
    await _tell(session, stay, now, status=status)
    await store.record(session, actor, f"reservation:{status}", reservation_id=stay.id)


async def _tell(session: Session, stay: Reservation, now: datetime, **fields: str | None) -> None:
    """Have something of a stay be as somebody says here, until its sender tells it anew."""
    newest = _newest(stay, now, cancels=fields.get("status") == ReservationStatus.CANCELLED)
    telling = Telling(newest, {name: text for name, text in fields.items() if text is not None})
    told = tellings.merge(tellings.load(stay.told), telling)
    wanted = tellings.current(told)
    listing = await listings.listing(session, stay.listing_id or "")
    if {"check_in", "check_out"} & telling.fields.keys():
        columns.check_told(replace(telling, fields=wanted), listing)
    values = columns.of(wanted, listing, stay)
    await _set(session, stay, values | columns.history(stay, told, values, now))


def _newest(stay: Reservation, now: datetime, *, cancels: bool = False) -> Version:
    """A version that comes after everything told so far."""
    told = tellings.load(stay.told)
    before = told[0].version.updated_at if told else now
    return Version(max(before + timedelta(microseconds=1), now), now, cancels, secrets.token_hex(8))
