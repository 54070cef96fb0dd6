"""Sender `lodgify`: webhooks signed with an HMAC-SHA256 of the body, as hex.

Source: docs.lodgify.com/reference/webhooks and /webhook-objects. An event has no id, and no time of
its change, and is sent again until it is answered 200: the hash of its body is its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from starlette.datastructures import Headers

from pinqueue.fetchers.lodgify import STATUSES, booking_of
from pinqueue.webhooks.sender import (
    NumberedId,
    Received,
    Shape,
    Told,
    body_hash,
    checked,
    signed_hex,
)

SECRET_IN_PATH, ID_NAMES_DELIVERY = False, False
ACTIONS = ("booking_new_", "booking_change", "booking_status_change")
"""How those begin that tell of a booking."""


def verify(secrets: Sequence[str], received: Received) -> bool:
    """Each event subscribed to has a secret of its own, so one of ours may be several, with spaces
    between them."""
    signatures = received.headers.getlist("ms-signature")
    if len(signatures) != 1:
        return False
    scheme, _, signature = signatures[0].partition("=")
    each = [one for secret in secrets for one in (secret, *secret.split()) if one]
    return signed_hex(each, received.raw, signature.lower()) and scheme == "sha256"


def clock_is_off(headers: Headers, now: datetime) -> bool:
    return False


def event_id(received: Received, body: dict[str, Any]) -> str:
    return body_hash(received.raw)


class _Booking(Shape):
    id: NumberedId


class _Event(Shape):
    action: Annotated[str, Field(min_length=1, max_length=128)]
    booking: _Booking


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    """An event is a whole booking, but maybe an old one that is sent again: its API knows."""
    action = body.get("action")
    if isinstance(action, str) and not action.startswith(ACTIONS):
        return Told(action[:128])
    event = checked(_Event, body)
    booking = booking_of(body["booking"], body.get("guest"), received_at, event_id)
    if booking is not None and booking.status is None:
        status = STATUSES.get(event.action.rpartition("_")[2])
        booking = replace(booking, status=status)
    return Told(event.action, booking, fetch=event.booking.id)
