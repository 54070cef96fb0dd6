"""Sender `smoobu`: webhooks without a signature, so a secret in the path.

Source: docs.smoobu.com, and the samples that its users published: some tell the whole booking, some
a part. Changes come without a time that can be trusted, so the order of arrival counts where there
is no API.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.datastructures import Headers

from pinqueue.fetchers.smoobu import booking_of
from pinqueue.lifecycle import ReservationStatus
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

MADE, CHANGED = "newReservation", "updateReservation"
ENDED = ("cancelReservation", "deleteReservation")


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
    """Rates, messages and the guest's own check-in have actions of their own."""
    kind = body.get("action")
    if isinstance(kind, str) and kind not in (MADE, CHANGED, *ENDED):
        return Told(kind[:128])
    event = checked(_Event, body)
    kind = kind if isinstance(kind, str) else "reservation"
    booking = booking_of(body["data"], received_at, event_id)
    if kind in ENDED:
        booking = replace(booking, status=ReservationStatus.CANCELLED)
    elif kind == MADE and booking.status is None:
        booking = replace(booking, status=ReservationStatus.CONFIRMED)
    return Told(kind, booking, fetch=event.data.id)
