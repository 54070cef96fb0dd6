"""Stays.net: bookings from its External API, version 1.

Source: stays.net/external-api, as its wrapper github.com/jonathanpmartins/staysvel repeats it, and
answers that were published. Not verified against the real thing: how it words a rate limit.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.reading import identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

URL = ""
"""None: each customer has a host of its own, e.g. https://CUSTOMER.stays.net."""

TYPES = {
    "reserved": ReservationStatus.PENDING,  # pré-reserva: the guarantee is not paid yet
    "booked": ReservationStatus.CONFIRMED,
    "contract": ReservationStatus.CONFIRMED,  # paid whole, checked in
    "blocked": ReservationStatus.BLOCKED,
    "ownerblocked": ReservationStatus.BLOCKED,
    "maintenance": ReservationStatus.BLOCKED,
    "cleaning": ReservationStatus.BLOCKED,
    "canceled": ReservationStatus.CANCELLED,
    "cancelled": ReservationStatus.CANCELLED,
    "deleted": ReservationStatus.CANCELLED,
}
_LISTED = ("reserved", "booked", "contract", "blocked", "maintenance", "canceled")
"""Those that the list can be asked for. It leaves out the last three unless it is."""
_PAGE = 20  # the most, as documented; it cuts a longer one without a word

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(:[0-5][0-9])?")


async def booking(client: Client, reservation_id: str) -> Booking | None:
    """By its short id or its long one."""
    path = f"{_base(client)}/booking/reservations/{quote(reservation_id, safe='')}"
    found = await client.get(path, headers=_headers(client))
    return None if found is None else _read(client, found)


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    """Page by page up to an empty one, in no order."""
    days = {"from": since.isoformat(), "to": until.isoformat(), "dateType": "included"}
    query = [*days.items(), *(("type", kind) for kind in _LISTED), ("limit", str(_PAGE))]
    seen: set[str] = set()
    skip = 0
    while True:
        page = await client.ask(
            "GET",
            f"{_base(client)}/booking/reservations",
            headers=_headers(client),
            params=[*query, ("skip", str(skip))],
        )
        if not isinstance(page, list):
            raise SourceUnreachable("the sender's API answered with something else than a list")
        if not page:
            return
        found = [_read(client, row) for row in page]
        new = [one for one in found if one.reservation_id not in seen]
        if not new:
            raise SourceUnreachable("the sender's API lists the same page again and again")
        for one in new:
            yield one
        seen.update(one.reservation_id for one in new)
        skip += len(page)


def booking_of(reservation: Any, told_at: datetime, event_id: str) -> Booking | None:
    """What a reservation object tells, in an answer or in a webhook; None for one without an id.

    It has two ids, a short one for people (`id`) and a long one (`_id`): some events have the one,
    some the other, most both. No object has a time of its last change.
    """
    short, long = identifier(part(reservation, "id")), identifier(part(reservation, "_id"))
    stay_id = short or long
    if stay_id is None:
        return None
    guest = _guest(reservation)
    return Booking(
        reservation_id=stay_id,
        other_id=long if long != stay_id else None,
        status=_status(reservation),
        updated_at=told_at,
        event_at=told_at,
        event_id=event_id,
        listing_id=identifier(part(reservation, "_idlisting")),
        check_in=_local(reservation, "checkIn"),
        check_out=_local(reservation, "checkOut"),
        guest_name=guest[0],
        guest_phone=guest[1],
    )


def _status(reservation: Any) -> ReservationStatus | None:
    kind = words(part(reservation, "type"), 64)
    # One that we do not know gets no PIN: better a call from a guest than a stranger in the house.
    return None if kind is None else TYPES.get(kind.lower(), ReservationStatus.PENDING)


def _local(reservation: Any, name: str) -> str | None:
    """The date, with its time where one is told that can be: webhooks leave it out."""
    day = words(part(reservation, f"{name}Date"), 64)
    if day is None:
        return None
    time = _TIME.fullmatch(words(part(reservation, f"{name}Time"), 64) or "")
    return f"{day[:10]}T{int(time[1]):02}:{time[2]}" if time else day[:10]


def _guest(reservation: Any) -> tuple[str | None, str | None]:
    """Name and phone: the list has a `client`, one reservation its guests."""
    guests = part(reservation, "guestsDetails", "list")
    guests = guests if isinstance(guests, list) else []
    first = next((guest for guest in guests if part(guest, "primary") is True), part(guests, 0))
    client = part(reservation, "client")
    name = words(part(first, "name"), 200) or words(part(client, "name"), 200)
    phone = words(part(first, "phones", 0, "iso"), 50) or words(part(client, "phoneNumber"), 50)
    return name, phone


def _read(client: Client, reservation: Any) -> Booking:
    found = booking_of(reservation, client.asked_at, "api")
    if found is None:
        raise SourceUnreachable("the sender's API answered with something else than a booking")
    return found


def _headers(client: Client) -> dict[str, str]:
    login = b64encode(f"{client.api.user}:{client.api.token}".encode()).decode()
    return {"Authorization": f"Basic {login}", "Accept": "application/json"}


def _base(client: Client) -> str:
    """People copy the address with the version and without it."""
    return "" if client.api.url.endswith("/external/v1") else "/external/v1"
