"""Lodgify: its own test event, and its API as docs.lodgify.com/reference describes it."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.senders.api import Played, playing
from tests.senders.stay import Stay

SECRET, OTHER_SECRET, KEY = "secret-of-bookings", "secret-of-changes", "api-key-of-lodgify"
BOOKING, PROPERTY = "123456", "10000"
PAGE = 2
"""The most this API gives, whatever is asked: paging shows with few bookings."""

EXAMPLE: dict[str, Any] = {
    "action": "booking_new_status_booked",
    "booking": {
        "type": "Booking",
        "id": 123456,
        "date_arrival": "2022-05-21T00:00:00",
        "date_departure": "2022-05-24T00:00:00",
        "date_created": "2022-05-17T19:48:14+00:00",
        "property_id": 10000,
        "property_name": "Amazing Property on the Beach",
        "property_image_url": "https://l.icdbcdn.com/oh/71466fcc-6bb9-4b52-8145-3dc22fc435534e.jpg?f=32",
        "status": "Booked",
        "room_types": [
            {"id": 999999, "room_type_id": 12345, "image_url": None, "name": "", "people": 1}
        ],
        "add_ons": [],
        "currency_code": "USD",
        "source": "AirbnbIntegration",
        "source_text": "XXXXXXX9",
        "notes": None,
        "language": "en",
        "ip_address": None,
        "ip_country": None,
        "is_policy_active": True,
        "external_url": None,
        "nights": 3,
        "promotion_code": None,
    },
    "guest": {
        "uid": "AJgBFoLdfe533443JrDha0E2kGg",
        "name": "John Doe",
        "email": "johndoe@lodgify.com",
        "phone_number": "667675867768",
        "country": None,
        "country_code": None,
    },
    "current_order": {
        "id": 12343,
        "property_id": 10000,
        "currency_code": "USD",
        "status": "Agreed",
    },
    "subowner": {
        "user_id": 23244,
        "first_name": "Jane",
        "last_name": "Doe",
        "email": "janedoe@lodgify.com",
        "phone": "66456534545",
    },
    "booking_total_amount": "1113",
    "booking_currency_code": "USD",
    "total_transactions": {"amount": "0"},
    "balance_due": "1113",
}
"""Lodgify's test event, whole."""


def day(ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(days=ahead)).date().isoformat()


def event(action: str = "booking_change", **booking: Any) -> dict[str, Any]:
    """The same of a stay that lies ahead, with changes."""
    body = copy.deepcopy(EXAMPLE)
    days = {"date_arrival": f"{day(10)}T00:00:00", "date_departure": f"{day(13)}T00:00:00"}
    return {**body, "action": action, "booking": {**body["booking"], **days, **booking}}


def listed(booking_id: str = BOOKING, *, ahead: int = 10, **changes: Any) -> dict[str, Any]:
    """A booking as the API writes it."""
    return {
        "id": int(booking_id),
        "user_id": 23244,
        "arrival": day(ahead),
        "departure": day(ahead + 3),
        "property_id": int(PROPERTY),
        "rooms": [{"room_type_id": 12345, "people": 1, "key_code": ""}],
        "guest": {"name": "John Doe", "email": None, "phone": "667675867768"},
        "status": "Booked",
        "source": "AirbnbIntegration",
        "created_at": "2026-11-01T10:00:00+00:00",
        "updated_at": "2026-11-01T10:00:00+00:00",
        "canceled_at": None,
        "is_new": False,
        "is_deleted": False,
        **changes,
    }


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def sign(sent: bytes, secret: str = SECRET) -> dict[str, str]:
    signature = hmac.new(secret.encode(), sent, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "ms-signature": f"sha256={signature}"}


@contextmanager
def api(*bookings: dict[str, Any]) -> Iterator[Played]:
    routes = {
        "/v2/reservations/bookings": _list,
        "/v2/reservations/bookings/{id:int}": _one,
    }
    with playing(Played(KEY, list(bookings), header="x-apikey"), routes) as played:
        yield played


def _one(played: Played, request: Request) -> Response:
    for booking in played.bookings:
        if booking["id"] == request.path_params["id"]:
            return JSONResponse(booking)
    return JSONResponse({"code": 404, "message": "Booking not found"}, 404)


def _list(played: Played, request: Request) -> Response:
    query = request.query_params
    if not 1 <= int(query["size"]) <= 50 or int(query["page"]) < 1:
        return JSONResponse({"message": "page and size"}, 400)
    found = [booking for booking in played.bookings if _asked_for(booking, query["stayFilter"])]
    if query["trash"] != "All":
        found = [booking for booking in found if not booking["is_deleted"]]
    first = (int(query["page"]) - 1) * PAGE
    return JSONResponse({"count": None, "items": found[first : first + PAGE]})


def _asked_for(booking: dict[str, Any], stays: str) -> bool:
    over, begun = booking["departure"] < day(0), booking["arrival"] <= day(0)
    if stays == "Upcoming":
        return not begun
    return begun and not over if stays == "Current" else over


def tells(stay: Stay) -> dict[str, Any]:
    booking: dict[str, Any] = {
        "id": stay.number,
        "date_arrival": f"{stay.arrives}T00:00:00",
        "date_departure": f"{stay.leaves}T00:00:00",
        "property_id": stay.listing or int(PROPERTY),
        "status": "Declined" if stay.cancelled else "Booked",
    }
    return {**event(**booking), "guest": {"name": stay.name, "phone_number": stay.phone}}


def lists(stay: Stay) -> dict[str, Any]:
    """As its API tells it."""
    return listed(
        str(stay.number),
        arrival=stay.arrives.isoformat(),
        departure=stay.leaves.isoformat(),
        property_id=stay.listing or int(PROPERTY),
        status="Declined" if stay.cancelled else "Booked",
    )
