"""Reservations and their access codes, over HTTP."""

from __future__ import annotations

import secrets
from datetime import datetime

from pinqueue import audit, codes, forgetting, jobs, models, reservations, store
from pinqueue.api import cursors
from pinqueue.api.calls import Call, Table
from pinqueue.api.shapes import (
    Cancelled,
    Code,
    Codes,
    Erased,
    Exported,
    GrantBody,
    OfCode,
    OfReservation,
    ReissueBody,
    Reissued,
    ReissuedStay,
    Reservation,
    ReservationBody,
    Reservations,
    ReservationsAsked,
    Revealed,
    ScheduledReservation,
)
from pinqueue.db import Session
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.store import lists, neighbours
from pinqueue.store.queue import JobFilter

TABLE = Table("Reservations")
CODES = Table("Access codes")


@TABLE.route("GET", "/api/reservations", "read", {200: Reservations})
async def list_reservations(call: Call, given: ReservationsAsked) -> tuple[int, Reservations]:
    """List reservations, in the order of their ids."""
    found = await lists.reservations(
        call.session,
        listing_id=given.listing,
        status=given.status,
        after=cursors.read(given.cursor),
        limit=given.limit + 1,
    )
    page = await _told(call, *found[: given.limit])
    more = cursors.made(page[-1].id) if len(found) > given.limit else None
    return 200, Reservations(reservations=page, next_cursor=more)


@TABLE.route("GET", "/api/reservations/{id}", "read", {200: Reservation}, refused=[404])
async def get_reservation(call: Call, given: OfReservation) -> tuple[int, Reservation]:
    """Get a reservation."""
    stay = await lists.reservation(call.session, given.id)
    if stay is None:
        raise reservations.unknown(given.id)
    (told,) = await _told(call, stay)
    return 200, told


@TABLE.route(
    "PUT",
    "/api/reservations/{id}",
    "operate",
    {200: Reservation, 201: Reservation},
    refused=[404, 409],
)
async def put_reservation(
    call: Call, given: OfReservation, body: ReservationBody
) -> tuple[int, Reservation]:
    """Create a reservation, or change it.

    For stays without a property system; one that a webhook sender told of is changed there (409).
    A confirmed stay has its PINs scheduled at once. 404: there is no such listing.
    """
    now = await store.now(call.session)
    booking = _booking(given.id, body, now)
    stay = await reservations.put(call.session, call.planner, call.actor, booking, now)
    (told,) = await _told(call, stay)
    return 201 if stay.created_at == now else 200, told


@TABLE.route(
    "POST",
    "/api/reservations/{id}/confirm",
    "operate",
    {200: ScheduledReservation},
    refused=[404, 409],
)
async def confirm_reservation(call: Call, given: OfReservation) -> tuple[int, ScheduledReservation]:
    """Confirm a reservation and schedule its PINs.

    Also one that was cancelled, or whose jobs were. Twice is as once.
    """
    now = await store.now(call.session)
    stay = await reservations.confirm(call.session, call.planner, call.actor, given.id, now)
    turnovers = await neighbours.turnovers(call.session, [stay.id])
    scheduled = await _scheduled_jobs(call.session, stay.id)
    return 200, ScheduledReservation.of(
        stay, same_day_turnover=turnovers.get(stay.id), jobs=scheduled
    )


@TABLE.route(
    "POST",
    "/api/reservations/{id}/grant",
    "operate",
    {200: Reservation},
    refused=[404, 409],
)
async def grant_reservation(
    call: Call, given: OfReservation, body: GrantBody
) -> tuple[int, Reservation]:
    """Let a guest in earlier, or out later, than was booked.

    The listing's buffers go before and after it. It ends when its sender tells another date. The
    guest's PIN stays the same.
    """
    now = await store.now(call.session)
    stay = await reservations.grant(
        call.session,
        call.planner,
        call.actor,
        given.id,
        now,
        early_check_in=body.early_check_in,
        late_check_out=body.late_check_out,
    )
    (told,) = await _told(call, stay)
    return 200, told


@TABLE.route("DELETE", "/api/reservations/{id}/cancel", "operate", {200: Cancelled}, refused=[404])
async def cancel_reservation(call: Call, given: OfReservation) -> tuple[int, Cancelled]:
    """Cancel a reservation: its jobs are cancelled, and a PIN on a door is taken off at once.

    Twice is as once; the second time, no job was left to cancel.
    """
    flags = await jobs.cancel_scheduled_jobs(call.session, given.id, actor=call.actor)
    now = await store.now(call.session)
    stay = await reservations.cancel(call.session, call.planner, call.actor, given.id, now)
    return 200, Cancelled(status=ReservationStatus(stay.status), **flags)


@TABLE.route("GET", "/api/reservations/{id}/export", "admin", {200: Exported}, refused=[404])
async def export_reservation(call: Call, given: OfReservation) -> tuple[int, Exported]:
    """Export all that is stored of a reservation and its guest, without its PINs."""
    found = await forgetting.export(call.session, given.id)
    return 200, Exported.model_validate(found)


@TABLE.route("POST", "/api/reservations/{id}/erase", "admin", {200: Erased}, refused=[404])
async def erase_guest(call: Call, given: OfReservation) -> tuple[int, Erased]:
    """Forget a reservation's guest: name, phone, and what its webhooks told.

    The stay and its PIN go on. Should its sender tell of it again, it tells of the guest again.
    """
    await forgetting.erase(call.session, call.actor, given.id)
    return 200, Erased(reservation=given.id)


@CODES.route("GET", "/api/reservations/{id}/codes", "read", {200: Codes}, refused=[404])
async def list_codes(call: Call, given: OfReservation) -> tuple[int, Codes]:
    """List a reservation's access codes, ended ones too, without their PINs."""
    await get_reservation(call, given)
    found = await lists.codes(call.session, given.id)
    return 200, Codes(codes=[Code.model_validate(code) for code in found])


@CODES.route("POST", "/api/codes/{id}/reveal", "reveal", {200: Revealed}, refused=[404])
async def reveal_code(call: Call, given: OfCode) -> tuple[int, Revealed]:
    """Reveal an access code's PIN. Who revealed what, and when, is audited."""
    pin = await audit.reveal(call.session, call.planner.sealer, call.actor, given.id)
    return 200, Revealed(pin=pin.digits())


@CODES.route("POST", "/api/codes/{id}/reissue", "operate", {200: Reissued}, refused=[404, 409])
async def reissue_code(call: Call, given: OfCode, body: ReissueBody) -> tuple[int, Reissued]:
    """Give the stay another PIN on that lock.

    A code still `scheduled` gets other digits at once. Another comes off its door first; once it is
    seen to be off, a new code with other digits is made: look at the reservation's codes.
    """
    now = await store.now(call.session)
    code = await codes.reissue(
        call.session, call.planner.sealer, call.actor, given.id, now=now, dry_run=body.dry_run
    )
    return 200, _reissued(code, body)


@CODES.route(
    "POST",
    "/api/reservations/{id}/reissue",
    "operate",
    {200: ReissuedStay},
    refused=[404, 409],
)
async def reissue_reservation(
    call: Call, given: OfReservation, body: ReissueBody
) -> tuple[int, ReissuedStay]:
    """Give the stay another PIN on all its doors.

    As for one code; the doors get one PIN again where their lengths allow.
    """
    now = await store.now(call.session)
    found = await reservations.reissue(
        call.session, call.planner, call.actor, given.id, now, dry_run=body.dry_run
    )
    return 200, ReissuedStay(codes=[_reissued(code, body) for code in found])


async def _told(call: Call, *stays: models.Reservation) -> list[Reservation]:
    turnovers = await neighbours.turnovers(call.session, [stay.id for stay in stays])
    return [Reservation.of(stay, same_day_turnover=turnovers.get(stay.id)) for stay in stays]


def _reissued(code: models.AccessCode, body: ReissueBody) -> Reissued:
    return Reissued.of(code, comes_off_first=codes.comes_off_first(code), dry_run=body.dry_run)


def _booking(reservation_id: str, body: ReservationBody, now: datetime) -> Booking:
    guest = body.guest
    return Booking(
        reservation_id=reservation_id,
        status=ReservationStatus(body.status),
        updated_at=now,
        event_at=now,
        event_id=secrets.token_hex(8),
        listing_id=body.listing_id,
        check_in=body.check_in,
        check_out=body.check_out,
        guest_name=guest.name if guest else None,
        guest_phone=guest.phone if guest else None,
        lead=body.lead,
    )


async def _scheduled_jobs(session: Session, reservation_id: str) -> list[dict[str, object]]:
    found = await jobs.find_jobs(session, JobFilter(reservation_id=reservation_id), limit=jobs.MOST)
    return [job for job in found.jobs if job["state"] in ("delayed", "waiting", "active")]
