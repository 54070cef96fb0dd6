"""Hospitable: its bodies, exactly as they are known, and its Public API."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.senders.api import Played, playing
from tests.senders.stay import Stay

SECRET, TOKEN = "cmVudGFsc0BleGFtcGxlLmNvbQ==", "eyJ0eXAiOiJKV1QifQ.token"
ULID = "01GTKD6ZYFVQMR0RWP4HBBHNZC"
STAY, PROPERTY = "6f58fd0a-a9cb-3746-9219-384a156ff7bb", "550e8400-e29b-41d4-a716-446655440000"
EST = timezone(timedelta(hours=-5))

COMPACT = (
    b'{ "id": "01GTKD6ZYFVQMR0RWP4HBBHNZC", "action": "reservation.created", "data": {},'
    b' "created": "2023-10-01T09:35:24Z", "version": "1.0" }'
)
PARTIAL = b'{ "check_in": "2019-01-03T16:30:00-05:00" }'
"""The `data` of a change, as the documentation shows it."""
CHANGED = COMPACT.replace(b"created", b"changed", 1).replace(b"{}", PARTIAL)


def sign(raw: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "signature": digest}


def event(action: str = "reservation.created", **changes: Any) -> dict[str, Any]:
    """About the whole of a reservation, told now."""
    now = datetime.now(UTC).isoformat()
    told = {"id": ULID, "action": action, "data": reservation(), "created": now, "version": "v2"}
    return {**told, **changes}


def changed(data: dict[str, Any], *triggers: str, **changes: Any) -> dict[str, Any]:
    """About a part of it."""
    beside = {"triggers": list(triggers)} if triggers else {}
    return event("reservation.changed", data=data, **beside, **changes)


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def reservation(**changes: Any) -> dict[str, Any]:
    """One as GET /reservations/{id} tells it, in days that are still to come."""
    return {
        "id": STAY,
        "conversation_id": "becd1474-ccd1-40bf-9ce8-04456bfa338d",
        "platform": "airbnb",
        "platform_id": "HMABC12345",
        "booking_date": "2019-01-01T12:00:00Z",
        **days(),
        "nights": 2,
        "status": "booking",
        "reservation_status": status("accepted"),
        "guests": {"total": 2, "adult_count": 2, "child_count": 0},
        "stay_type": "guest_stay",
        "properties": [{"id": PROPERTY, "name": "Brannan St Room", "timezone": "-0500"}],
        "guest": {
            "first_name": "Jane",
            "last_name": "Doe",
            "email": None,
            "phone_numbers": ["+14155550100"],
        },
        **changes,
    }


def status(category: str, sub_category: str | None = None) -> dict[str, Any]:
    return {"current": {"category": category, "sub_category": sub_category}, "history": []}


def days(arrival: int = 10, nights: int = 2) -> dict[str, str]:
    midnight = datetime.now(EST).replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = midnight + timedelta(days=arrival), midnight + timedelta(days=arrival + nights)
    return {
        "arrival_date": first.isoformat(),
        "departure_date": last.isoformat(),
        "check_in": first.replace(hour=16).isoformat(),
        "check_out": last.replace(hour=11).isoformat(),
    }


@contextmanager
def api(*bookings: dict[str, Any], properties: int = 1) -> Iterator[Played]:
    played = Played(f"Bearer {TOKEN}", list(bookings))
    others = [{"id": f"{n:08}-e29b-41d4-a716-446655440000"} for n in range(1, properties)]
    routes = {
        "/v2/properties": lambda _, request: _page([{"id": PROPERTY}, *others], request),
        "/v2/reservations": _list,
        "/v2/reservations/{id}": _one,
    }
    with playing(played, routes) as played:
        yield played


def _one(played: Played, request: Request) -> Response:
    for found in played.bookings:
        if request.path_params["id"] == found["id"]:
            return JSONResponse({"data": _with_included(found, request)})
    return JSONResponse({"status_code": 404, "reason_phrase": "Not Found"}, 404)


def _list(played: Played, request: Request) -> Response:
    query = request.query_params
    chosen = query.getlist("properties[]")
    if not chosen or query["date_query"] not in ("checkin", "checkout"):
        return JSONResponse({"reason_phrase": "The properties field is required."}, 400)
    day = {"checkin": "arrival_date", "checkout": "departure_date"}[query["date_query"]]
    found = [
        _with_included(booking, request)
        for booking in played.bookings
        if booking["properties"][0]["id"] in chosen
        and query["start_date"] <= booking[day][:10] <= query["end_date"]
    ]
    return _page(found, request)


def _with_included(booking: dict[str, Any], request: Request) -> dict[str, Any]:
    included = request.query_params.get("include", "").split(",")
    left_out = {"guest", "properties"} - set(included)
    return {name: value for name, value in booking.items() if name not in left_out}


def _page(rows: list[dict[str, Any]], request: Request) -> Response:
    page, size = int(request.query_params["page"]), int(request.query_params["per_page"])
    if size > 100:
        return JSONResponse({"reason_phrase": "per_page must not be greater than 100."}, 400)
    meta = {"current_page": page, "last_page": max(-(-len(rows) // size), 1), "total": len(rows)}
    return JSONResponse({"data": rows[(page - 1) * size : page * size], "links": {}, "meta": meta})


def tells(stay: Stay) -> dict[str, Any]:
    """Its days alone: the times are the listing's."""
    data = reservation(
        id=f"{stay.number:08x}-a9cb-3746-9219-384a156ff7bb",
        arrival_date=f"{stay.arrives}T00:00:00-05:00",
        departure_date=f"{stay.leaves}T00:00:00-05:00",
        check_in=None,
        check_out=None,
        reservation_status=status("cancelled" if stay.cancelled else "accepted"),
        properties=[{"id": stay.listing or PROPERTY}],
        guest={"first_name": stay.name, "phone_numbers": [stay.phone]},
    )
    return event("reservation.changed", data=data, created=stay.at.isoformat())
