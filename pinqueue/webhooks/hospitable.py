"""Sender `hospitable`: Hospitable, webhooks of version 2.

Source: developer.hospitable.com, "webhooks". `data` is the reservation as the API tells it, or what
changed of it. Its page does not say whether the `id` beside it names the delivery or the
reservation: it is part of the event's id, with the body, and names a reservation only where `data`
names none. A cancel is a change: there is no event of its own for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.datastructures import Headers

from pinqueue.fetchers import hospitable
from pinqueue.fetchers.reading import identifier, instant
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Shape, Told, body_hash, checked, signed_hex

SECRET_IN_PATH, ID_NAMES_DELIVERY = False, False

CANCELS = ("reservation.cancelled", "reservation.canceled", "reservation.deleted")
"""Not documented; what they would say is clear."""
CHANGES = ("reservation.created", "reservation.changed", "reservation.updated")
TELLS = {
    "status_changed": ("status",),
    "dates_changed": ("check_in", "check_out"),
    "checkin_changed": ("check_in",),
    "checkout_changed": ("check_out",),
    "listing_changed": ("listing_id",),
}
"""What a change must tell of, by its triggers, so that we need not ask. Others concern no door."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def verify(secrets: Sequence[str], received: Received) -> bool:
    signatures = received.headers.getlist("signature")
    return len(signatures) == 1 and signed_hex(secrets, received.raw, signatures[0])


def clock_is_off(headers: Headers, now: datetime) -> bool:
    """It signs no time."""
    return False


def event_id(received: Received, body: dict[str, Any]) -> str:
    return f"{(identifier(body.get('id')) or '')[:48]}-{body_hash(received.raw)}"


class _Event(Shape):
    action: str
    id: Any = None
    data: dict[str, Any]
    triggers: Any = None
    created: Any = None


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    action = body.get("action")
    if isinstance(action, str) and action not in CANCELS + CHANGES:
        return Told(action[:128])
    event = checked(_Event, body)
    named = hospitable.reservation_id(event.data)
    fallback = (identifier(event.id) or "").lower()
    if not named and not fallback:
        fault = {"field": "data.id", "message": "is required, or id"}
        raise Refusal(422, "invalid_body", "the event names no reservation", [fault])
    if not named and not _UUID.fullmatch(fallback):
        return Told(event.action, fetch=identifier(event.id))
    stay_id = named or fallback
    at = instant(event.created) or received_at
    booking = hospitable.booking_of(event.data, stay_id, at, event_id)
    if event.action in CANCELS:
        return Told(event.action, replace(booking, status=ReservationStatus.CANCELLED))
    if _whole(booking):
        return Told(event.action, booking)
    told = booking if _tells_of(event, booking) else None
    return Told(event.action, told, fetch=stay_id)


def _whole(booking: Booking) -> bool:
    dates = (booking.check_in, booking.check_out)
    return None not in (booking.status, booking.listing_id) and all(map(_is_time, dates))


def _is_time(text: str | None) -> bool:
    try:
        datetime.fromisoformat(text or "")
    except ValueError:
        return False
    return True


def _tells_of(event: _Event, booking: Booking) -> bool:
    """Whether a part of a booking tells all that its triggers say has changed. To take in the rest
    of a change whose cancel was left out would keep a PIN on the door."""
    triggers = event.triggers or event.data.get("triggers")
    if not isinstance(triggers, list):
        return True
    fields = [TELLS.get(trigger, ()) for trigger in triggers if isinstance(trigger, str)]
    return all(
        not names or any(getattr(booking, name) is not None for name in names) for names in fields
    )
