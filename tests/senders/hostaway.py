"""Hostaway, as github.com/Hostaway/api documents it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.senders.playing import Fault, Played, day
from tests.senders.stay import Stay

ENVELOPE: dict[str, Any] = {
    "object": "reservation",
    "event": "reservation.updated",
    "accountId": 12345,
    "data": {"id": 1, "listingMapId": 100, "departureDate": "forged"},
}
"""A webhook, as a public test has it."""
RESERVATION: dict[str, Any] = {
    "id": 13,
    "listingMapId": 40160,
    "channelName": "airbnb",
    "guestName": "Andrew Peterson",
    "arrivalDate": "2017-07-15",
    "departureDate": "2017-07-16",
    "isDatesUnspecified": 0,
    "previousArrivalDate": None,
    "previousDepartureDate": None,
    "checkInTime": None,
    "checkOutTime": None,
    "nights": 1,
    "phone": "+75125551212",
    "status": "new",
    "cancellationDate": None,
    "doorCode": "12345",
    "doorCodeVendor": "vendor",
    "doorCodeInstruction": "instruction",
    "confirmationCode": "HMP2KQ4B44",
}
"""The official object, with its very values."""


@dataclass
class Hostaway(Played):
    KIND: ClassVar[str] = "hostaway"
    LISTING: ClassVar[str] = "40160"
    USER: ClassVar[str] = "10450"
    ENTRY: ClassVar[str] = "/v1"
    CANCELLED: ClassVar[str] = "cancelled"

    tokens: dict[str, float] = field(default_factory=dict)
    """When each was made: it is good a second later."""

    def put(self, stay: str, *, ahead: int = 10, listing: str = "", status: str = "") -> None:
        self.bookings[stay] = {
            "id": int(stay),
            "listingMapId": int(listing or self.LISTING),
            "guestName": "Andrew Peterson",
            "phone": "+75125551212",
            "arrivalDate": day(ahead),
            "departureDate": day(ahead + 3),
            "isDatesUnspecified": 0,
            "checkInTime": None,
            "checkOutTime": None,
            "status": status or "new",
        }

    def event(self, stay: str) -> dict[str, Any]:
        return {
            "object": "reservation",
            "event": "reservation.updated",
            "accountId": 10450,
            "data": {"id": int(stay), "listingMapId": 100, "departureDate": "forged"},
        }

    def routes(self) -> list[Any]:
        return [
            Route("/v1/accessTokens", self.new_token, methods=["POST"]),
            Route("/v1/reservations", self.list),
            Route("/v1/reservations/{id:int}", self.one),
        ]

    async def new_token(self, request: Request) -> Response:
        if fault := self.fault(request):
            return fault
        asked = dict(parse_qsl((await request.body()).decode()))
        wanted = {
            "grant_type": "client_credentials",
            "client_id": self.USER,
            "client_secret": self.TOKEN,
            "scope": "general",
        }
        if asked != wanted:
            return Fault(401).answer()
        token = secrets.token_hex(8)
        self.tokens[token] = time.monotonic()
        return JSONResponse({"token_type": "Bearer", "expires_in": 15897600, "access_token": token})

    def refused(self, request: Request) -> Response | None:
        if fault := self.fault(request):
            return fault
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        made_at = self.tokens.get(token)
        good = scheme == "Bearer" and made_at is not None and time.monotonic() - made_at >= 1
        return None if good else Fault(403).answer()

    async def one(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        found = self.bookings.get(str(request.path_params["id"]))
        return (
            JSONResponse({"status": "success", "result": found}) if found else Fault(404).answer()
        )

    async def list(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        query = request.query_params
        found = sorted(
            (
                booking
                for booking in self.bookings.values()
                if query["departureStartDate"] <= booking["departureDate"]
                and booking["arrivalDate"] <= query["arrivalEndDate"]
            ),
            key=lambda booking: (booking["arrivalDate"], booking["id"]),
        )
        if query["sortOrder"] != "arrivalDate":
            return Fault(400).answer()
        if after := query.get("afterId"):
            found = found[[booking["id"] for booking in found].index(int(after)) + 1 :]
        page = found[: min(int(query["limit"]), self.page)]
        return JSONResponse({"status": "success", "result": page, "count": len(found)})


def tells(stay: Stay) -> dict[str, Any]:
    data = {
        **RESERVATION,
        "id": stay.number,
        "listingMapId": stay.listing or Hostaway.LISTING,
        "arrivalDate": stay.arrives.isoformat(),
        "departureDate": stay.leaves.isoformat(),
        "guestName": stay.name,
        "phone": stay.phone,
        "status": "cancelled" if stay.cancelled else "modified",
    }
    return {**ENVELOPE, "data": data}


def lists(stay: Stay) -> dict[str, Any]:
    """As its API tells it."""
    data: dict[str, Any] = tells(stay)["data"]
    return data
