"""Cloudbeds, as its OpenAPI document of version 1.3 has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.senders.playing import Fault, Played, day
from tests.senders.stay import Stay

PROPERTY = "12345"
EXAMPLE = (
    b'{ "version": "1.0", "reservationId": "31415926", "timestamp": 1611758157.431234,'
    b' "event": "reservation/dates_changed", "propertyId": 12345, "propertyId_str": "12345",'
    b' "startDate": "2020-05-19", "endDate": "2020-05-21" }'
)
"""A webhook, as it is published."""
NOT_FOUND = {"success": False, "message": "Reservation not found."}


@dataclass
class Cloudbeds(Played):
    KIND: ClassVar[str] = "cloudbeds"
    LISTING: ClassVar[str] = "601917-0"
    USER: ClassVar[str] = PROPERTY
    TOKEN: ClassVar[str] = "cbat_token-of-the-api"
    ENTRY: ClassVar[str] = "/api/v1.3"
    CANCELLED: ClassVar[str] = "canceled"

    def put(self, stay: str, *, ahead: int = 10, listing: str = "", status: str = "") -> None:
        self.bookings[stay] = {
            "propertyID": PROPERTY,
            "reservationID": stay,
            "dateModified": "2026-01-01 10:00:00",
            "status": status or "confirmed",
            "guestName": "John Doe",
            "startDate": day(ahead),
            "endDate": day(ahead + 3),
            "rooms": [room(stay, listing or self.LISTING, ahead)],
            "guestList": {
                "282": {"guestID": "282", "isMainGuest": True, "guestPhone": "+1 555 0100"}
            },
        }

    def event(self, stay: str) -> dict[str, Any]:
        return {
            "version": "1.0",
            "reservationId": stay,
            "timestamp": 1611758157.431234,
            "event": "reservation/dates_changed",
            "propertyId": 12345,
            "propertyId_str": PROPERTY,
            "startDate": "2020-05-19",
            "endDate": "2020-05-21",
        }

    def routes(self) -> list[Any]:
        return [
            Route("/api/v1.3/getReservation", self.one),
            Route("/api/v1.3/getReservations", self.list),
        ]

    def refused(self, request: Request) -> Response | None:
        if fault := self.fault(request):
            return fault
        good = request.headers.get("x-api-key") == self.TOKEN
        right = request.query_params.get("propertyID") == PROPERTY
        return None if good and right else Fault(401).answer()

    async def one(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        found = self.bookings.get(request.query_params["reservationID"])
        if found is None:
            return JSONResponse(NOT_FOUND)
        rooms = [as_one_has_it(each) for each in found["rooms"]]
        apart = {
            "assigned": [each for each in rooms if each["roomID"]],
            "unassigned": [each for each in rooms if not each["roomID"]],
        }
        return JSONResponse({"success": True, "data": {**found, **apart, "rooms": None}})

    async def list(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        query = request.query_params
        if query["includeAllRooms"] != "true" or int(query["pageSize"]) > 100:
            return Fault(400).answer()
        found = [
            booking
            for booking in self.bookings.values()
            if query["checkInFrom"] <= booking["startDate"] <= query["checkInTo"]
            and query["checkOutFrom"] <= booking["endDate"] <= query["checkOutTo"]
        ]
        size = min(int(query["pageSize"]), self.page)
        page = found[(int(query["pageNumber"]) - 1) * size :][:size]
        told = {"success": True, "data": page, "count": len(page), "total": len(found)}
        return JSONResponse(told)


def room(sub_id: str, room_id: str | None, ahead: int, status: str = "") -> dict[str, Any]:
    """As the list has it."""
    return {
        "subReservationID": sub_id,
        "roomID": room_id,
        "roomCheckIn": day(ahead),
        "roomCheckOut": day(ahead + 3),
        "roomStatus": status or "not_checked_in",
    }


def as_one_has_it(listed: dict[str, Any]) -> dict[str, Any]:
    """The same room under the names that one reservation has for it."""
    names = {"roomCheckIn": "startDate", "roomCheckOut": "endDate"}
    return {names.get(name, name): value for name, value in listed.items() if name != "roomStatus"}


def tells(stay: Stay) -> dict[str, Any]:
    """It tells no guest: its API does."""
    return {
        "version": "1.0",
        "event": "reservation/status_changed",
        "timestamp": stay.at.timestamp(),
        "propertyId": PROPERTY,
        "reservationId": str(stay.number),
        "roomId": stay.listing or Cloudbeds.LISTING,
        "status": "canceled" if stay.cancelled else "confirmed",
        "startDate": stay.arrives.isoformat(),
        "endDate": stay.leaves.isoformat(),
    }
