"""Hostaway's reservations, as its webhooks and its API both write them, and its API.

Source: github.com/Hostaway/api at 2026-07-23. The token belongs to an account id and a secret, is
good for 24 months, and only a second after it was made. 15 requests are allowed in 10 seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from pinqueue.errors import SourceRefused, SourceUnreachable
from pinqueue.fetchers.reading import days, identifier, part, words
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking

if TYPE_CHECKING:
    from pinqueue.fetchers import Api, Client

URL: Final = "https://api.hostaway.com/v1"
PAGE, PACE, TOKEN_RIPENS = 100, 0.7, 1.1
"""Bookings a request; seconds between two; seconds until a new token is good."""

STATUSES: Final = {
    "new": ReservationStatus.CONFIRMED,
    "modified": ReservationStatus.CONFIRMED,
    "cancelled": ReservationStatus.CANCELLED,
    "declined": ReservationStatus.CANCELLED,
    "expired": ReservationStatus.CANCELLED,
    "inquiryDenied": ReservationStatus.CANCELLED,
    "inquiryTimedout": ReservationStatus.CANCELLED,
    "inquiryNotPossible": ReservationStatus.CANCELLED,
    "ownerStay": ReservationStatus.BLOCKED,
    "pending": ReservationStatus.PENDING,
    "unconfirmed": ReservationStatus.PENDING,
    "awaitingPayment": ReservationStatus.PENDING,
    "awaitingGuestVerification": ReservationStatus.PENDING,
    "inquiry": ReservationStatus.PENDING,
    "inquiryPreapproved": ReservationStatus.PENDING,
    "unknown": ReservationStatus.PENDING,
}
"""A no-show has no status of its own: its PIN stays until check-out, for a guest who comes late."""

_tokens: dict[Api, str] = {}
"""Those in use, as long as the process lives: each is good for two years, so one is enough."""


async def booking(client: Client, reservation_id: str) -> Booking | None:
    answer = await _get(client, f"/reservations/{reservation_id}")
    if answer is None:
        return None
    return _read(client, _result(answer, dict))


async def bookings(client: Client, since: date, until: date) -> AsyncIterator[Booking]:
    """By arrival, so that one that changes meanwhile does not move to another page."""
    query: dict[str, str | int] = {
        "limit": PAGE,
        "sortOrder": "arrivalDate",
        "departureStartDate": since.isoformat(),
        "arrivalEndDate": until.isoformat(),
    }
    while page := _result(await _get(client, "/reservations", **query), list):
        for each in page:
            yield _read(client, each)
        last = identifier(part(page[-1], "id")) or ""
        if last == query.get("afterId"):
            raise SourceUnreachable("the list of bookings does not end")
        query["afterId"] = last
        await asyncio.sleep(PACE)


def booking_of(data: dict[str, Any], at: datetime, event_id: str) -> Booking:
    """A reservation object, or as much of one as there is. Whatever it holds, it is read."""
    arrival, departure = days(data.get("arrivalDate"), data.get("departureDate"))
    if data.get("isDatesUnspecified") not in (None, 0, "0", False):
        arrival = departure = None  # the channel told no dates: Hostaway writes yesterday's
    status = words(data.get("status"), 64)
    return Booking(
        reservation_id=identifier(data.get("id")) or "",
        # One that we do not know gives no PIN.
        status=STATUSES.get(status, ReservationStatus.PENDING) if status else None,
        updated_at=at,
        event_at=at,
        event_id=event_id,
        listing_id=identifier(data.get("listingMapId")),
        check_in=_at_hour(arrival, data.get("checkInTime")),
        check_out=_at_hour(departure, data.get("checkOutTime")),
        guest_name=words(data.get("guestName"), 200),
        guest_phone=words(data.get("phone"), 50),
    )


def _at_hour(day: str | None, hour: Any) -> str | None:
    """Without an hour, the listing's own time."""
    text = identifier(hour)
    if day is None or text is None or not text.isdecimal() or int(text[:3]) > 23:
        return day
    return f"{day}T{int(text):02}:00:00"


def _read(client: Client, data: Any) -> Booking:
    if not isinstance(data, dict) or identifier(data.get("id")) is None:
        raise SourceUnreachable("the sender's API answered with a reservation without an id")
    return booking_of(data, client.asked_at, "api")


def _result(answer: Any, shape: type) -> Any:
    """What an answer holds; every one is `{"status": "success", "result": ...}`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), shape):
        raise SourceUnreachable("the sender's API answered without a result")
    return answer["result"]


async def _get(client: Client, path: str, **query: str | int) -> Any:
    if token := _tokens.get(client.api):
        try:
            return await client.get(path, headers=_headers(token), **query)
        except SourceRefused:  # revoked, or old
            _tokens.pop(client.api, None)
    token = await _new_token(client)
    answer = await client.get(path, headers=_headers(token), **query)
    _tokens[client.api] = token
    return answer


async def _new_token(client: Client) -> str:
    grant = {
        "grant_type": "client_credentials",
        "client_id": client.api.user,
        "client_secret": client.api.token,
        "scope": "general",
    }
    answer = await client.ask("POST", "/accessTokens", data=grant)
    token = words(part(answer, "access_token"), 5000)
    if token is None:
        raise SourceUnreachable("the sender's API answered without an access token")
    await asyncio.sleep(TOKEN_RIPENS)
    return token


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Cache-Control": "no-cache"}
