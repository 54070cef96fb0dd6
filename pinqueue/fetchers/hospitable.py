"""Hospitable: bookings from its Public API, version 2.

Source: developer.hospitable.com, and what others found when they asked it (repositories
tykeal/homeassistant-hospitable and others). Left out by the list, whatever is asked: bookings of a
property none of whose listings is published. Not verified: how it words a rate limit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.reading import identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.schedule import LONGEST_STAY

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

URL = "https://public.api.hospitable.com/v2"

CATEGORIES = {
    "request": ReservationStatus.PENDING,
    "accepted": ReservationStatus.CONFIRMED,
    "cancelled": ReservationStatus.CANCELLED,
    "not accepted": ReservationStatus.CANCELLED,  # declined, or expired
    "checkpoint": ReservationStatus.PENDING,  # the channel checks the guest, or his payment
    "unknown": ReservationStatus.PENDING,
    # Only in the flat `status`, which is deprecated:
    "booking": ReservationStatus.CONFIRMED,
    "canceled": ReservationStatus.CANCELLED,
    "denied": ReservationStatus.CANCELLED,
    "declined": ReservationStatus.CANCELLED,
    "expired": ReservationStatus.CANCELLED,
    "withdrawn": ReservationStatus.CANCELLED,
    "checkpoint voided": ReservationStatus.CANCELLED,
}
_INCLUDED = "guest,properties"
_PAGE, _PROPERTIES = 100, 50
"""The most on a page, as documented; and as many properties in one address as is safe."""


async def booking(client: Client, reservation_id: str) -> Booking | None:
    path = f"/reservations/{quote(reservation_id, safe='')}"
    answer = await client.get(path, headers=_headers(client), include=_INCLUDED)
    return None if answer is None else _read(client, part(answer, "data"))


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    """Property by property, of any status. It knows no "some night lies between": asked for are
    those that end after the first day, and no stay is longer than `LONGEST_STAY`."""
    properties = [identifier(part(row, "id")) async for row in _rows(client, "/properties", [])]
    days = {"start_date": since, "end_date": until + LONGEST_STAY, "date_query": "checkout"}
    query = [*((name, str(day)) for name, day in days.items()), ("include", _INCLUDED)]
    for first in range(0, len(properties), _PROPERTIES):
        batch = properties[first : first + _PROPERTIES]
        chosen = [("properties[]", property_id) for property_id in batch if property_id]
        async for row in _rows(client, "/reservations", [*chosen, *query]):
            yield _read(client, row)


def booking_of(reservation: Any, stay_id: str, told_at: datetime, event_id: str) -> Booking:
    """What a reservation object tells, in an answer or in a webhook; webhooks may tell a part.

    No object has a time of its last change.
    """
    guest = part(reservation, "guest")
    names = [words(part(guest, f"{name}_name"), 100) for name in ("first", "last")]
    return Booking(
        reservation_id=stay_id,
        status=_status(reservation),
        updated_at=told_at,
        event_at=told_at,
        event_id=event_id,
        listing_id=_listing_id(reservation),
        check_in=_instant_or_day(reservation, "check_in", "arrival_date"),
        check_out=_instant_or_day(reservation, "check_out", "departure_date"),
        guest_name=" ".join(name for name in names if name) or None,
        guest_phone=words(part(guest, "phone_numbers", 0), 50),
    )


def reservation_id(reservation: Any) -> str | None:
    """A UUID, which may be written in either case."""
    found = identifier(part(reservation, "id")) or identifier(part(reservation, "uuid"))
    return found.lower() if found else None


def _status(reservation: Any) -> ReservationStatus | None:
    told = part(reservation, "reservation_status", "current", "category")
    # The flat one contradicts it now and then, e.g. "cancelled" for one that was never accepted.
    category = words(told, 64) or words(part(reservation, "status"), 64)
    if category is None:
        return None
    # One that we do not know gets no PIN: better a call from a guest than a stranger in the house.
    status = CATEGORIES.get(category.lower().replace("_", " "), ReservationStatus.PENDING)
    owner = words(part(reservation, "stay_type"), 64) == "owner_stay"
    return ReservationStatus.BLOCKED if owner and status == ReservationStatus.CONFIRMED else status


def _listing_id(reservation: Any) -> str | None:
    """The property: `properties` is a list of one; `property` is what some were told."""
    for path in (("properties", 0, "id"), ("property", "id"), ("property_id",)):
        if found := identifier(part(reservation, *path)):
            return found.lower()
    return None


def _instant_or_day(reservation: Any, time: str, day: str) -> str | None:
    """The time with its offset; else the day alone: `arrival_date` is midnight, nobody's hour."""
    told = words(part(reservation, time), 64)
    if told is None and (date_told := words(part(reservation, day), 64)):
        return date_told[:10]
    return told


async def _rows(client: Client, path: str, query: list[tuple[str, str]]) -> AsyncIterator[Any]:
    page = last = 1
    while page <= last:
        paging = [("per_page", str(_PAGE)), ("page", str(page))]
        answer = await client.ask("GET", path, headers=_headers(client), params=[*query, *paging])
        rows, last = part(answer, "data"), part(answer, "meta", "last_page")
        if not isinstance(rows, list) or not isinstance(last, int):
            raise SourceUnreachable("the sender's API answered with something else than a list")
        for row in rows:
            yield row
        page += 1


def _read(client: Client, reservation: Any) -> Booking:
    found = reservation_id(reservation)
    if found is None:
        raise SourceUnreachable("the sender's API answered with something else than a booking")
    return booking_of(reservation, found, client.asked_at, "api")


def _headers(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.api.token}", "Accept": "application/json"}
