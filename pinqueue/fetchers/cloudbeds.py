"""Cloudbeds' reservations, and its API, version 1.3.

Source: github.com/cloudbeds/openapi-specs, `pms-v1.3-openapi.yaml`; 5 requests a second at most.
Not verified against the real thing: that the list has cancelled reservations where it is asked for
no status, and how a reservation that is not there is worded, which 200 answers, too.

A reservation has rooms, and each is a stay of its own. Its listing is the room, and where none is
assigned yet the property: with a listing for that, a guest gets in by its doors meanwhile. The
first room's id is the reservation's, each further one's that with a hyphen and a number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.reading import Rooms, days, identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.schedule import LONGEST_STAY

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

URL: Final = "https://api.cloudbeds.com/api/v1.3"
PAGE, PACE = 100, 0.25
"""Reservations a request, the most there are; seconds between two."""

STATUSES: Final = {
    "not_confirmed": ReservationStatus.PENDING,
    "confirmed": ReservationStatus.CONFIRMED,
    "checked_in": ReservationStatus.CONFIRMED,
    # Whoever comes late, or comes back for a bag, gets in until check-out.
    "no_show": ReservationStatus.CONFIRMED,
    "checked_out": ReservationStatus.CONFIRMED,
    "canceled": ReservationStatus.CANCELLED,
    "cancelled": ReservationStatus.CANCELLED,
}

_NOT_THERE = re.compile(r"not found|not exist|no reservation|invalid reservation", re.IGNORECASE)


async def booking(client: Client, reservation_id: str) -> Booking | Rooms | None:
    answer = await _get(client, "getReservation", reservationID=reservation_id)
    if answer is None or _NOT_THERE.search(_fault(answer) or ""):
        return None
    data = _data(answer, dict)
    return _rooms(data, [*_rows(data, "assigned"), *_rows(data, "unassigned")], client.asked_at)


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking | Rooms]:
    query: dict[str, str | int] = {
        "checkInFrom": (since - LONGEST_STAY).isoformat(),
        "checkInTo": until.isoformat(),
        "checkOutFrom": since.isoformat(),
        "checkOutTo": (until + LONGEST_STAY).isoformat(),
        "includeAllRooms": "true",
        "includeGuestsDetails": "true",
        "pageSize": PAGE,
    }
    listed, page_number = 0, 1
    while True:
        answer = await _get(client, "getReservations", **query, pageNumber=page_number)
        page = _data(answer, list)
        for data in page:
            yield _rooms(data, list(_rows(data, "rooms")), client.asked_at)
        listed, page_number = listed + len(page), page_number + 1
        total = part(answer, "total")
        if not page or (isinstance(total, int) and listed >= total):
            return
        await asyncio.sleep(PACE)


def status_of(text: Any) -> ReservationStatus | None:
    told = words(text, 64)
    # One that we do not know gives no PIN.
    return STATUSES.get(told.lower(), ReservationStatus.PENDING) if told else None


def _rooms(data: Any, rows: list[dict[str, Any]], asked_at: datetime) -> Booking | Rooms:
    reservation_id = identifier(part(data, "reservationID"))
    status = status_of(part(data, "status"))
    if reservation_id is None or status is None:
        raise SourceUnreachable("the sender's API answered with a reservation without id or status")
    name, phone = _guest(data)
    told = Booking(
        reservation_id, status, asked_at, asked_at, "api", guest_name=name, guest_phone=phone
    )
    if status == ReservationStatus.CANCELLED:
        return Rooms(reservation_id, [told])
    if not rows:  # it has some: who tells none of them has not taken them away
        check_in, check_out = days(part(data, "startDate"), part(data, "endDate"))
        return replace(told, check_in=check_in, check_out=check_out)
    stays: dict[str, Booking] = {}
    for row in sorted(rows, key=_order):
        stay_id = _stay_id(reservation_id, row, stays)
        stays[stay_id] = _room(replace(told, reservation_id=stay_id), row, part(data, "propertyID"))
    return Rooms(reservation_id, list(stays.values()))


def _room(told: Booking, row: dict[str, Any], property_id: Any) -> Booking:
    arrival = row.get("startDate") or row.get("roomCheckIn")
    departure = row.get("endDate") or row.get("roomCheckOut")
    check_in, check_out = days(arrival, departure)
    cancelled = words(row.get("roomStatus"), 64) in ("cancelled", "canceled")
    return replace(
        told,
        status=ReservationStatus.CANCELLED if cancelled else told.status,
        listing_id=identifier(row.get("roomID")) or identifier(property_id),
        check_in=check_in,
        check_out=check_out,
    )


def _order(row: dict[str, Any]) -> tuple[str, str, str]:
    """The same whatever order they are told in."""
    started = row.get("startDate") or row.get("roomCheckIn")
    return (str(row.get("subReservationID")), str(started)[:10], str(row.get("roomID")))


def _stay_id(reservation_id: str, row: dict[str, Any], taken: dict[str, Booking]) -> str:
    """The room's own id. A guest who changes rooms during the stay has one id for both."""
    sub_id = identifier(row.get("subReservationID")) or reservation_id
    if sub_id != reservation_id and not sub_id.startswith(f"{reservation_id}-"):
        sub_id = f"{reservation_id}-{sub_id}"
    if sub_id not in taken:
        return sub_id
    return f"{sub_id}-{identifier(row.get('roomID')) or len(taken)}"


def _guest(data: Any) -> tuple[str | None, str | None]:
    """Name and phone of the main guest."""
    told = part(data, "guestList")
    guests = list(told.values()) if isinstance(told, dict) else []
    main = next((guest for guest in guests if part(guest, "isMainGuest") is True), None)
    phone = words(part(main, "guestCellPhone"), 50) or words(part(main, "guestPhone"), 50)
    return words(part(data, "guestName"), 200), phone


def _rows(data: Any, name: str) -> Iterator[dict[str, Any]]:
    """What a list, or an object that a list became, holds."""
    told = part(data, name)
    rows = list(told.values()) if isinstance(told, dict) else told
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            raise SourceUnreachable("the sender's API answered with a room that is none")
        yield row


async def _get(client: Client, method: str, **query: str | int) -> Any:
    headers = {"x-api-key": client.api.token}
    if client.api.user:
        headers["X-PROPERTY-ID"] = query["propertyID"] = client.api.user
    return await client.get(f"/{method}", headers=headers, **query)


def _fault(answer: Any) -> str | None:
    """What the API says is wrong, which it answers 200 with."""
    return words(part(answer, "message"), 100) if part(answer, "success") is False else None


def _data(answer: Any, shape: type) -> Any:
    if fault := _fault(answer):
        raise SourceUnreachable(f"the sender's API answered: {fault}")
    if part(answer, "success") is not True or not isinstance(part(answer, "data"), shape):
        raise SourceUnreachable("the sender's API answered without data")
    return answer["data"]
