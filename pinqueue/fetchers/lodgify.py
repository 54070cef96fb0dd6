"""Lodgify's bookings, as its webhooks and its API both write them, and its API, version 2.

Source: docs.lodgify.com/reference, and the schema of `GET /v2/reservations/bookings` there. Not
verified against the real thing: that declined and deleted bookings stay in the list of their days,
and how many requests it allows, of which it publishes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.reading import identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

URL: Final = "https://api.lodgify.com"
PAGE, PACE = 50, 0.2
"""Bookings a request, the most it gives; seconds between two."""

STATUSES: Final = {
    "booked": ReservationStatus.CONFIRMED,
    "tentative": ReservationStatus.PENDING,  # held until it is paid, or expires
    "open": ReservationStatus.PENDING,  # asked for
    "unavailable": ReservationStatus.BLOCKED,  # the owner's
    "declined": ReservationStatus.CANCELLED,  # what was booked and is cancelled, too
    "canceled": ReservationStatus.CANCELLED,
    "cancelled": ReservationStatus.CANCELLED,
}
"""The first five are documented. A no-show has none: its PIN stays until check-out."""

_STAYS: Final = ("Upcoming", "Current")
"""The list cannot be asked for days. In this order, a stay that begins meanwhile is not missed."""


async def booking(client: Client, reservation_id: str) -> Booking | None:
    found = await _get(client, f"/v2/reservations/bookings/{reservation_id}")
    return None if found is None else _read(client, found)


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    """Those that are not over: page by page up to an empty one, those in the trash too."""
    seen: set[str] = set()
    for stays in _STAYS:
        number = 0
        while page := await _page(client, stays, number := number + 1):
            found = [_read(client, row) for row in page]
            if number > 1 and all(one.reservation_id in seen for one in found):
                raise SourceUnreachable("the sender's API lists the same page again and again")
            for one in found:
                if one.reservation_id not in seen:
                    seen.add(one.reservation_id)
                    yield one
            await asyncio.sleep(PACE)


def booking_of(data: Any, guest: Any, at: datetime, event_id: str) -> Booking | None:
    """What a booking object tells; None for one without an id.

    A booking is of one property, however many of its rooms it has. Its times are midnight and mean
    none; its webhooks do not say when it was changed.
    """
    booking_id = identifier(part(data, "id"))
    if booking_id is None:
        return None
    return Booking(
        reservation_id=booking_id,
        status=_status(data),
        updated_at=at,
        event_at=at,
        event_id=event_id,
        listing_id=identifier(part(data, "property_id")),
        check_in=_day(data, "arrival"),
        check_out=_day(data, "departure"),
        guest_name=words(part(guest, "name"), 200),
        guest_phone=words(part(guest, "phone_number"), 50) or words(part(guest, "phone"), 50),
    )


def _status(data: Any) -> ReservationStatus | None:
    if part(data, "is_deleted") is True:
        return ReservationStatus.CANCELLED
    status = words(part(data, "status"), 64)
    # One that we do not know gets no PIN: better a call from a guest than a stranger in the house.
    return STATUSES.get(status.lower(), ReservationStatus.PENDING) if status else None


def _day(data: Any, name: str) -> str | None:
    """The date alone: webhooks write `date_arrival`, the API `arrival`."""
    text = words(part(data, f"date_{name}"), 64) or words(part(data, name), 64)
    return text and text[:10]


async def _page(client: Client, stays: str, number: int) -> list[Any]:
    answer = await _get(
        client,
        "/v2/reservations/bookings",
        page=number,
        size=PAGE,
        stayFilter=stays,
        trash="All",
        includeExternal="true",  # those of other calendars are guests as well
    )
    items = part(answer, "items")
    if not isinstance(items, list):
        raise SourceUnreachable("the sender's API answered with something else than a list")
    return items


async def _get(client: Client, path: str, **query: str | int) -> Any:
    headers = {"X-ApiKey": client.api.token, "Accept": "application/json"}
    return await client.get(path, headers=headers, **query)


def _read(client: Client, data: Any) -> Booking:
    found = booking_of(data, part(data, "guest"), client.asked_at, "api")
    if found is None:
        raise SourceUnreachable("the sender's API answered with something else than a booking")
    return found
