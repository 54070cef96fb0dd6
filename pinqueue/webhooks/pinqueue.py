"""Sender `pinqueue`: our own webhook shape, signed by Standard Webhooks 1.0.0.

Source of the signature: standard-webhooks.com, spec/standard-webhooks.md, `v1` (HMAC-SHA256).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers

from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks import standard
from pinqueue.webhooks.sender import Received, Shape, Told, checked

SECRET_IN_PATH, ID_NAMES_DELIVERY = False, True
TYPES = ("reservation.created", "reservation.updated", "reservation.cancelled")


def verify(secrets: Sequence[str], received: Received) -> bool:
    return standard.verify(secrets, received, "webhook")


def clock_is_off(headers: Headers, now: datetime) -> bool:
    return standard.clock_is_off(headers, now, "webhook")


def event_id(received: Received, body: dict[str, Any]) -> str:
    """The id of the event, the same on every retry; verify() has checked its form."""
    return received.headers["webhook-id"]


def _with_offset(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError("time", "must be an ISO 8601 date and time") from None
    if moment.tzinfo is None:
        raise PydanticCustomError("time", "must have an offset, e.g. 2026-11-01T10:00:00Z")
    if not 2000 <= moment.year <= 2200:
        raise PydanticCustomError("time", "must be in the years 2000 to 2200")
    return text


def _plain(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise PydanticCustomError("id", "must not hold spaces around it or control characters")
    return text


Instant = Annotated[str, Field(max_length=64), AfterValidator(_with_offset)]
Id = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain)]
LocalTime = Annotated[str, Field(min_length=1, max_length=64)]


class EventGuest(Shape):
    name: str | None = None
    phone: str | None = None


class EventData(Shape):
    reservation_id: Id
    listing_id: Id | None = None
    status: Literal["pending", "confirmed", "cancelled"] | None = None
    check_in: LocalTime | None = None
    check_out: LocalTime | None = None
    updated_at: Instant | None = None
    guest: EventGuest | None = None


class Event(Shape):
    type: Annotated[str, Field(min_length=1, max_length=128)]
    timestamp: Instant
    data: EventData

    @model_validator(mode="after")
    def _says_enough(self) -> Event:
        needed = ("listing_id", "status", "check_in", "check_out")
        if self.cancels:
            return self
        for name in needed:
            if getattr(self.data, name) is None:
                raise PydanticCustomError(
                    "missing",
                    "data.{name} is required unless the stay is cancelled",
                    {"name": name},
                )
        return self

    @property
    def cancels(self) -> bool:
        return self.type == "reservation.cancelled" or self.data.status == "cancelled"


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    kind = body.get("type")
    if isinstance(kind, str) and kind not in TYPES:
        return Told(kind[:128])
    event = checked(Event, body)
    return Told(event.type, _booking(event_id, event))


def _booking(event_id: str, event: Event) -> Booking:
    data, guest = event.data, event.data.guest or EventGuest()
    event_at = datetime.fromisoformat(event.timestamp).astimezone(UTC)
    updated_at = (
        datetime.fromisoformat(data.updated_at).astimezone(UTC) if data.updated_at else None
    )
    return Booking(
        reservation_id=data.reservation_id,
        status=ReservationStatus.CANCELLED
        if event.cancels
        else ReservationStatus(str(data.status)),
        updated_at=updated_at or event_at,
        event_at=event_at,
        event_id=event_id,
        listing_id=data.listing_id,
        check_in=data.check_in,
        check_out=data.check_out,
        guest_name=guest.name[:200] if guest.name else None,
        guest_phone=guest.phone[:50] if guest.phone else None,
    )
