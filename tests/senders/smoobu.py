"""Smoobu, as docs.smoobu.com and its clients have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.senders.playing import Fault, Played, day
from tests.senders.stay import Stay

SAMPLE: dict[str, Any] = {
    "action": "newReservation",
    "data": {"id": 292, "arrival": "2024-07-15", "apartment": {"id": 38, "name": "Apartment 1"}},
}
"""A webhook, as it is published."""


@dataclass
class Smoobu(Played):
    KIND: ClassVar[str] = "smoobu"
    LISTING: ClassVar[str] = "38"
    ENTRY: ClassVar[str] = "/api"
    CANCELLED: ClassVar[str] = "cancellation"

    def put(self, stay: str, *, ahead: int = 10, listing: str = "", status: str = "") -> None:
        self.bookings[stay] = {
            "id": int(stay),
            "reference-id": None,
            "type": status or "reservation",
            "arrival": day(ahead),
            "departure": day(ahead + 3),
            "created-at": "2026-01-01 10:00",
            "modifiedAt": "2026-01-01 10:00:00",
            "apartment": {"id": int(listing or self.LISTING), "name": "Apartment 1"},
            "channel": {"id": 70, "name": "Homepage"},
            "guest-name": "Erika Muster",
            "phone": "+49 30 5550100",
            "check-in": "",
            "check-out": None,
            "is-blocked-booking": False,
        }

    def event(self, stay: str) -> dict[str, Any]:
        return {"action": "updateReservation", "user": 7, "data": {"id": int(stay)}}

    def routes(self) -> list[Any]:
        return [
            Route("/api/reservations", self.list),
            Route("/api/reservations/{id:int}", self.one),
        ]

    def refused(self, request: Request) -> Response | None:
        if fault := self.fault(request):
            return fault
        return None if request.headers.get("api-key") == self.TOKEN else Fault(401).answer()

    async def one(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        found = self.bookings.get(str(request.path_params["id"]))
        return JSONResponse(found) if found else Fault(404).answer()

    async def list(self, request: Request) -> Response:
        if refused := self.refused(request):
            return refused
        query = request.query_params
        found = [
            booking
            for booking in self.bookings.values()
            if query["from"] <= booking["departure"] and booking["arrival"] <= query["to"]
            if query.get("showCancellation") == "true" or booking["type"] != "cancellation"
        ]
        size = min(int(query["pageSize"]), self.page)
        number = int(query["page"])
        page = found[(number - 1) * size :][:size]
        return JSONResponse(
            {
                "page_count": -(-len(found) // size),
                "page_size": size,
                "total_items": len(found),
                "page": number,
                "bookings": page,
            }
        )


def tells(stay: Stay) -> dict[str, Any]:
    action = "cancelReservation" if stay.cancelled else "updateReservation"
    return {"action": action, "user": 7, "data": lists(stay)}


def lists(stay: Stay) -> dict[str, Any]:
    """As its API tells it, and its webhooks, too."""
    return {
        "id": stay.number,
        "type": "cancellation" if stay.cancelled else "modification of booking",
        "arrival": stay.arrives.isoformat(),
        "departure": stay.leaves.isoformat(),
        "apartment": {"id": stay.listing or Smoobu.LISTING},
        "guest-name": stay.name,
        "phone": stay.phone,
    }
