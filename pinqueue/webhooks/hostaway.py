"""Sender `hostaway`: unified webhooks, unsigned, so a secret in the path and optional basic auth.

Source: github.com/Hostaway/api, `_webhook_unified.md`. A 4xx loses the event for good, so whatever
names a reservation is taken: what its body tells is worth no more than a hint where there is an
API, and without one only what can be true of a stay is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from starlette.datastructures import Headers

from pinqueue.fetchers.hostaway import booking_of
from pinqueue.webhooks.sender import (
    NumberedId,
    Received,
    Shape,
    Told,
    body_hash,
    checked,
    knows_path,
)

SECRET_IN_PATH, ID_NAMES_DELIVERY = True, False


def verify(secrets: Sequence[str], received: Received) -> bool:
    return knows_path(secrets, received)


def clock_is_off(headers: Headers, now: datetime) -> bool:
    return False


def event_id(received: Received, body: dict[str, Any]) -> str:
    return body_hash(received.raw)


class _Data(Shape):
    id: NumberedId


class _Event(Shape):
    data: _Data


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    """A cancellation is an update, as is a no-show. Changes come without their time."""
    kind = body.get("event")
    if not isinstance(kind, str):
        kind = "reservation"  # taken if it names one
    elif not kind.startswith("reservation") and body.get("object") != "reservation":
        return Told(kind[:128])
    event = checked(_Event, body)
    return Told(kind[:128], booking_of(body["data"], received_at, event_id), fetch=event.data.id)
