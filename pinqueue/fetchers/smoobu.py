"""Smoobu's bookings, as its webhooks and its API both write them, and its API.

Source: docs.smoobu.com, and clients of it that were published. Not verified against the real thing:
the zone of `modifiedAt`, which is why it orders nothing, and whether a cancelled booking can still
be asked for. Keys that sign each request, which newer accounts can have, are not used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.reading import days, identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking

if TYPE_CHECKING:
    from pinqueue.fetchers import Client

URL: Final = "https://login.smoobu.com/api"
PAGE, PACE = 100, 0.1
"""Bookings a request, the most there are; seconds between two: 1000 a minute are allowed."""

TYPES: Final = {
    "reservation": ReservationStatus.CONFIRMED,
    "modification of booking": ReservationStatus.CONFIRMED,
    "cancellation": ReservationStatus.CANCELLED,
}
BLOCKED_CHANNEL = "11"

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(:[0-5][0-9])?")


async def booking(client: Client, reservation_id: str) -> Booking | None:
    answer = await client.get(f"/reservations/{reservation_id}", headers=_headers(client))
    return None if answer is None else _read(client, answer)


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    query: dict[str, str | int] = {
        "from": since.isoformat(),
        "to": until.isoformat(),
        "pageSize": PAGE,
        "showCancellation": "true",
        "excludeBlocked": "false",
    }
    number = 1
    while True:
        answer = await client.get("/reservations", headers=_headers(client), **query, page=number)
        page, pages = part(answer, "bookings"), part(answer, "page_count")
        if not isinstance(page, list) or not isinstance(pages, int):
            raise SourceUnreachable("the sender's API answered without a list of bookings")
        for each in page:
            yield _read(client, each)
        if not page or number >= pages:
            return
        number += 1
        await asyncio.sleep(PACE)


def booking_of(data: dict[str, Any], at: datetime, event_id: str) -> Booking:
    """A booking object, or as much of one as there is. Whatever it holds, it is read."""
    arrival, departure = days(data.get("arrival"), data.get("departure"))
    first, last = words(data.get("firstname"), 100), words(data.get("lastname"), 100)
    return Booking(
        reservation_id=identifier(data.get("id")) or "",
        status=_status(data),
        updated_at=at,
        event_at=at,
        event_id=event_id,
        listing_id=identifier(part(data, "apartment", "id")),
        check_in=_at_time(arrival, data.get("check-in")),
        check_out=_at_time(departure, data.get("check-out")),
        guest_name=words(data.get("guest-name"), 200)
        or " ".join(filter(None, [first, last]))
        or None,
        guest_phone=words(data.get("phone"), 50),
    )


def _status(data: dict[str, Any]) -> ReservationStatus | None:
    kind = words(data.get("type"), 64)
    if kind is not None and TYPES.get(kind.lower()) == ReservationStatus.CANCELLED:
        return ReservationStatus.CANCELLED
    blocked = data.get("is-blocked-booking") not in (None, False, 0, "", "0", "false")
    if blocked or identifier(part(data, "channel", "id")) == BLOCKED_CHANNEL:
        return ReservationStatus.BLOCKED
    # One that we do not know gives no PIN.
    return TYPES.get(kind.lower(), ReservationStatus.PENDING) if kind else None


def _at_time(day: str | None, time: Any) -> str | None:
    """Without a time, the listing's own."""
    found = _TIME.fullmatch(words(time, 64) or "")
    return f"{day}T{int(found[1]):02}:{found[2]}:00" if day and found else day


def _read(client: Client, data: Any) -> Booking:
    if not isinstance(data, dict) or identifier(data.get("id")) is None:
        raise SourceUnreachable("the sender's API answered with a booking without an id")
    found = booking_of(data, client.asked_at, "api")
    if found.status is None:
        raise SourceUnreachable("the sender's API answered with a booking without a type")
    return found


def _headers(client: Client) -> dict[str, str]:
    return {"Api-Key": client.api.token, "Cache-Control": "no-cache"}
