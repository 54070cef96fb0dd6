"""Guesty: events as they were published, and its API as open-api-docs.guesty.com describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests import serving
from tests.senders.api import Played, playing
from tests.senders.stay import Stay

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CLIENT_ID, CLIENT_SECRET = "client-of-guesty", "secret-of-the-client"
STAY, LISTING = "59d11425af06e3100095e9fe", "59ac245d27cb310f0017afe3"
PAGE, TOKENS_A_DAY = 2, 5
_numbers = count(1)

LEGACY: dict[str, Any] = {
    "reservation": {
        "__v": 0,
        "lastUpdatedAt": "2017-10-01T16:13:25.711Z",
        "status": "inquiry",
        "checkIn": "2017-10-04T12:00:00.000Z",
        "checkOut": "2017-10-08T07:00:00.000Z",
        "nightsCount": 4,
        "guestsCount": 2,
        "checkInDateLocalized": "2017-10-04",
        "checkOutDateLocalized": "2017-10-08",
        "guestId": "586147bfb2acb2100022cfaf",
        "listingId": LISTING,
        "accountId": "563e0b6a08a2710e00057b82",
        "source": "Manual",
        "isReturningGuest": True,
        "_id": STAY,
        "customFields": [],
        "confirmedPreBookings": [],
        "log": [],
        "pendingTasks": [],
        "review": {"shouldReview": True},
    },
    "event": "reservation.new",
}
"""open-api-docs.guesty.com/docs/webhooks-reservations, without the money."""
LEAN: dict[str, Any] = {
    "event": "reservation.updated.v2",
    "meta": {"eventId": "e1"},
    "data": {"reservationId": "r9", "status": "canceled"},
}
NESTED: dict[str, Any] = {
    "event": "reservation.updated.v2",
    "data": {"reservation": {"id": "65f19af19824d7e6ff848f11"}},
}
"""The second generation, as two public tests have it."""


def day(ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(days=ahead)).date().isoformat()


def reservation(stay: str = STAY, *, ahead: int = 10, **changes: Any) -> dict[str, Any]:
    """A stay of three days, as the API and the first generation write it."""
    return {
        "_id": stay,
        "listingId": LISTING,
        "status": "confirmed",
        "checkIn": f"{day(ahead)}T18:00:00.000Z",
        "checkOut": f"{day(ahead + 3)}T14:00:00.000Z",
        "checkInDateLocalized": day(ahead),
        "checkOutDateLocalized": day(ahead + 3),
        "plannedArrival": None,
        "plannedDeparture": None,
        "lastUpdatedAt": datetime.now(UTC).isoformat(),
        "guest": {"fullName": "Ana Rojas", "phone": "+50688880000"},
        **changes,
    }


def third(stay: str = STAY, *, ahead: int = 10, **changes: Any) -> dict[str, Any]:
    """The same as v3 writes it."""
    days = {"checkInDateLocalized": day(ahead), "checkOutDateLocalized": day(ahead + 3)}
    return {
        "reservationId": stay,
        "status": "confirmed",
        "guestId": "586147bfb2acb2100022cfaf",
        "checkIn": f"{day(ahead)}T18:00:00Z",
        "checkOut": f"{day(ahead + 3)}T14:00:00Z",
        **days,
        "stay": [{"unitId": LISTING, "unitTypeId": "a-type-of-units", **days}],
        **changes,
    }


def legacy(event: str = "reservation.updated", **changes: Any) -> dict[str, Any]:
    return {"reservation": reservation(**changes), "event": event}


def lean(event: str = "reservation.updated.v2", **data: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"event": event, "publishedAt": now, "data": {"reservationId": STAY, **data}}


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def sign(
    sent: bytes, secret: str = SECRET, *, event_id: str | None = None, **at: Any
) -> dict[str, str]:
    """As Standard Webhooks signs, under other names."""
    if event_id is None:
        event_id = f"msg_{next(_numbers)}"
    headers = serving.sign(sent, event_id, secret=secret, **at)
    return {name.replace("webhook-", "svix-"): value for name, value in headers.items()}


@dataclass
class Guesty(Played):
    tokens: list[str] = field(default_factory=list)
    retired: int | None = None
    """How `/v1/reservations` is answered once it is no more."""

    def calls(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)


@contextmanager
def api(*bookings: dict[str, Any]) -> Iterator[Guesty]:
    played = Guesty("", list(bookings), open=frozenset({"/oauth2/token"}))
    routes = {
        "/oauth2/token": _new_token,
        "/v1/reservations": _list,
        "/v1/reservations/{id}": _one,
        "/v1/reservations-v3": _by_ids,
        "/v1/reservations-v3/search": _search,
    }
    with playing(played, routes):
        yield played


def _new_token(played: Played, request: Request) -> Response:
    assert isinstance(played, Guesty)
    grant = {
        "grant_type": "client_credentials",
        "scope": "open-api",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    if request.method != "POST" or dict(parse_qsl(request.state.body.decode())) != grant:
        return JSONResponse({"error": "invalid_client"}, 401)
    if len(played.tokens) >= TOKENS_A_DAY:
        return JSONResponse({"message": "Too Many Requests"}, 429, {"Retry-After": "3600"})
    played.tokens.append(f"token-{len(played.tokens) + 1}")
    played.authorization = f"Bearer {played.tokens[-1]}"
    answer = {"token_type": "Bearer", "expires_in": 86400, "scope": "open-api"}
    return JSONResponse({**answer, "access_token": played.tokens[-1]})


def _one(played: Played, request: Request) -> Response:
    if gone := _gone(played):
        return gone
    if "checkInDateLocalized" not in request.query_params["fields"].split(" "):
        return JSONResponse({"message": "fields"}, 400)
    for booking in played.bookings:
        if booking.get("_id") == request.path_params["id"]:
            return JSONResponse(booking)
    return JSONResponse({"error": {"message": "Reservation not found"}}, 404)


def _list(played: Played, request: Request) -> Response:
    if gone := _gone(played):
        return gone
    ends, begins = json.loads(request.query_params["filters"])
    assert (ends["field"], ends["operator"]) == ("checkOutDateLocalized", "$gte")
    assert (begins["field"], begins["operator"]) == ("checkInDateLocalized", "$lte")
    rows, skip = _page(played, request, ends["value"], begins["value"])
    return JSONResponse(
        {"results": rows, "count": len(played.bookings), "limit": 100, "skip": skip}
    )


def _by_ids(played: Played, request: Request) -> Response:
    wanted = request.query_params.getlist("reservationIds[]")
    return JSONResponse([b for b in played.bookings if b.get("reservationId") in wanted])


def _search(played: Played, request: Request) -> Response:
    query = request.query_params
    rows, skip = _page(
        played, request, query["filter[checkOut][gte]"], query["filter[checkIn][lte]"]
    )
    pagination = {"skip": skip, "limit": 100, "hasMore": len(rows) == PAGE}
    return JSONResponse({"results": rows, "pagination": pagination})


def _page(
    played: Played, request: Request, since: str, until: str
) -> tuple[list[dict[str, Any]], int]:
    """At most two, whatever is asked: paging shows with few bookings."""
    query = request.query_params
    assert query["sort"] == "_id"
    assert int(query["limit"]) <= 100
    found = [
        booking
        for booking in played.bookings
        if since <= booking["checkOutDateLocalized"] and booking["checkInDateLocalized"] <= until
    ]
    skip = int(query["skip"])
    return found[skip : skip + PAGE], skip


def _gone(played: Played) -> Response | None:
    assert isinstance(played, Guesty)
    return JSONResponse({"message": "removed"}, played.retired) if played.retired else None


def tells(stay: Stay) -> dict[str, Any]:
    """Its days alone: the times are the listing's."""
    return legacy(
        _id=f"{stay.number:024x}",
        listingId=stay.listing or LISTING,
        status="canceled" if stay.cancelled else "confirmed",
        checkIn=None,
        checkOut=None,
        checkInDateLocalized=stay.arrives.isoformat(),
        checkOutDateLocalized=stay.leaves.isoformat(),
        lastUpdatedAt=stay.at.isoformat(),
        guest={"fullName": stay.name, "phone": stay.phone},
    )
