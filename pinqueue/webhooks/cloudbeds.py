"""Sender `cloudbeds`: webhooks of ids and dates, unsigned, so a secret in the path.

Source: developers.cloudbeds.com/docs/webhooks-1. It waits two seconds for an answer, promises no
order, and spells its ids in two ways. What an event tells is too little for a stay: the API is
needed, and may lag a little behind the event. Blocks of rooms, and what `doorLockKey/*` asks of
partners for locks, are not ours: a block has no guest, and the PIN goes by the stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field
from starlette.datastructures import Headers

from pinqueue.fetchers.cloudbeds import status_of
from pinqueue.fetchers.reading import days, identifier
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.sender import (
    Received,
    Shape,
    Told,
    body_hash,
    checked,
    knows_path,
    number_as_text,
)

SECRET_IN_PATH, ID_NAMES_DELIVERY = True, False

DELETED = "reservation/deleted"
LAG = timedelta(seconds=15)
"""Its API was seen to tell the state before an event for some seconds after it."""


def verify(secrets: Sequence[str], received: Received) -> bool:
    return knows_path(secrets, received)


def clock_is_off(headers: Headers, now: datetime) -> bool:
    return False


def event_id(received: Received, body: dict[str, Any]) -> str:
    """The time in each event, to the microsecond, makes its bytes its own."""
    return body_hash(received.raw)


ReservationId = Annotated[
    str, BeforeValidator(number_as_text), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")
]


class _Event(Shape):
    reservation_id: ReservationId = Field(
        validation_alias=AliasChoices("reservationID", "reservationId", "reservation_id")
    )


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    kind = body.get("event")
    if isinstance(kind, str) and not kind.startswith("reservation/"):
        return Told(kind[:128])
    event = checked(_Event, body)
    kind = kind[:128] if isinstance(kind, str) else "reservation"
    at = _instant(body.get("timestamp"), received_at)
    check_in, check_out = days(body.get("startDate"), body.get("endDate"))
    told = Booking(
        reservation_id=identifier(body.get("subReservationId")) or event.reservation_id,
        status=_status(kind, body),
        updated_at=at,
        event_at=at,
        event_id=event_id,
        listing_id=_listing(body),
        check_in=check_in,
        check_out=check_out,
    )
    return Told(kind, told, fetch=event.reservation_id, fetch_after=LAG)


def _status(kind: str, body: dict[str, Any]) -> ReservationStatus | None:
    """Events of rooms have a `status` too, of the room."""
    if kind == DELETED:
        return ReservationStatus.CANCELLED
    return status_of(body.get("status")) if kind == "reservation/status_changed" else None


def _listing(body: dict[str, Any]) -> str | None:
    names = ("roomId", "roomID", "propertyId_str", "propertyID_str", "propertyId", "propertyID")
    return next((id_ for name in names if (id_ := identifier(body.get(name)))), None)


def _instant(timestamp: Any, received_at: datetime) -> datetime:
    """Seconds since 1970, or when it came."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return received_at
    try:
        moment = datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return received_at
    return moment if 2000 <= moment.year <= 2200 else received_at
