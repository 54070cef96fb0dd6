"""Stays.net: its bodies, exactly as they are known, and its External API."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.senders.api import Played, playing
from tests.senders.stay import Stay

LOGIN, PASSWORD = "a1b2c3d4", "e5f6a7b8"
SECRET = "stays-path-secret_0123456789"
ZONE, LISTING = "America/Sao_Paulo", "604e42ff500e5de7df1a1e11"
SHORT, LONG = "KR97I", "668568de150f6a1f452de5b3"

CREATED = b"""{
    "action": "reservation.created",
    "_dt": "2024-07-03T15:07:02.577Z",
    "payload": {
        "_id": "668568de150f6a1f452de5b3",
        "id": "KR97I",
        "creationDate": "2024-07-03",
        "checkInDate": "2024-07-26",
        "checkOutDate": "2024-07-30",
        "_idlisting": "604e42ff500e5de7df1a1e11",
        "type": "reserved",
        "price": { "currency": "BRL", "_f_total": 40100 }
    }
}"""
CANCELED = b"""{
     "action": "reservation.canceled",
     "payload": { "id": "JM98I", "_idlisting": "604e42ff500e5de7df1a1e11" }
}"""
DELETED = b"""{
  "action": "reservation.deleted",
  "payload": {
    "_id": "696d19c9a90f0282b07c8f46",
    "_idlisting": "6706800de5d759250265592e",
    "from": "2026-01-28",
    "to": "2026-01-29"
  }
}"""
OTHERS = (
    "message.added",
    "calendar.rates.modified",
    "calendar.restrictions.modified",
    "reservation.payments.modified",
    "reservation.payments.created",
    "client.created",
    "listing.modified",
)


def event(action: str = "reservation.created", at: str | None = None, **payload: Any) -> bytes:
    """An event about the reservation of CREATED, in days that are still to come."""
    body: dict[str, Any] = {"action": action, "payload": {**reservation(), **payload}}
    return json.dumps({**body, "_dt": at} if at else body).encode()


def reservation(**changes: Any) -> dict[str, Any]:
    return {**json.loads(CREATED)["payload"], **days(), "type": "booked", **changes}


def days(arrival: int = 10, nights: int = 4) -> dict[str, str]:
    first = datetime.now(ZoneInfo(ZONE)).date() + timedelta(days=arrival)
    return {
        "checkInDate": first.isoformat(),
        "checkOutDate": (first + timedelta(days=nights)).isoformat(),
    }


def full(**changes: Any) -> dict[str, Any]:
    """One as GET /booking/reservations/{id} tells it."""
    guest = {"type": "adult", "name": "Fulana Silva", "primary": True}
    phones = [{"iso": "+5561999101020", "hint": "AirBnB"}]
    return reservation(
        checkInTime="16:30",
        checkOutTime="09:00",
        guestsDetails={"adults": 2, "list": [{"name": "adult_1"}, {**guest, "phones": phones}]},
        **changes,
    )


@contextmanager
def api(*bookings: dict[str, Any]) -> Iterator[Played]:
    login = base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()
    routes = {
        "/external/v1/booking/reservations": _list,
        "/external/v1/booking/reservations/{id}": _one,
    }
    with playing(Played(f"Basic {login}", list(bookings)), routes) as played:
        yield played


def _one(played: Played, request: Request) -> Response:
    wanted = request.path_params["id"]
    for found in played.bookings:
        if wanted in (found.get("id"), found.get("_id")):
            return JSONResponse(found)
    return JSONResponse({"message": "Not found"}, 404)


def _list(played: Played, request: Request) -> Response:
    query = request.query_params
    if query["dateType"] != "included" or not 1 <= int(query["limit"]) <= 20:
        return JSONResponse({"message": "Bad request"}, 400)
    kinds = query.getlist("type") or ["reserved", "booked", "contract"]
    found = [
        booking
        for booking in played.bookings
        if booking["type"] in kinds
        and booking["checkOutDate"] >= query["from"]
        and booking["checkInDate"] <= query["to"]
    ]
    skip = int(query["skip"])
    return JSONResponse(found[skip : skip + int(query["limit"])])


def tells(stay: Stay) -> dict[str, Any]:
    """The guest as the API has it, which events leave out."""
    payload = {
        "_id": f"{stay.number:024x}",
        "id": f"S{stay.number}",
        "checkInDate": stay.arrives.isoformat(),
        "checkOutDate": stay.leaves.isoformat(),
        "_idlisting": stay.listing or LISTING,
        "type": "booked",
        "client": {"name": stay.name, "phoneNumber": stay.phone},
    }
    action = "reservation.canceled" if stay.cancelled else "reservation.modified"
    return {"action": action, "_dt": stay.at.isoformat(), "payload": payload}
