"""Sender `stays`: Stays.net.

Source of the events: stays.net/external-api, "webhook notifications". Two things it leaves open:

* It sends `x-stays-signature`, but publishes neither the algorithm nor a key. What was captured is
  as long as an RSA signature of 4096 bits, so that no shared secret could ever fit. Until Stays
  says more, a secret at the end of the path is what proves the sender.
* `reservation.canceled` may come with an id alone, and then without `_dt`: two of them about one
  stay are the same bytes, and the second is a duplicate. A stay that was reactivated in between is
  found cancelled by the next comparison with the API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import Field
from starlette.datastructures import Headers

from pinqueue.fetchers import stays
from pinqueue.fetchers.reading import instant
from pinqueue.lifecycle import ReservationStatus
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Shape, Told, body_hash, checked, knows_path

SECRET_IN_PATH, ID_NAMES_DELIVERY = True, False

CHECKS: tuple[Callable[[Sequence[str], Received], bool], ...] = (knows_path,)
"""Each must hold. A check of Stays' own signature joins them here, once it is known."""

CANCELS = ("reservation.canceled", "reservation.cancelled", "reservation.deleted")
REACTIVATES = "reservation.reactivated"
CHANGES = ("reservation.created", "reservation.modified", "reservation.updated", REACTIVATES)


def verify(secrets: Sequence[str], received: Received) -> bool:
    return all(check(secrets, received) for check in CHECKS)


def clock_is_off(headers: Headers, now: datetime) -> bool:
    """It signs no time that we could check."""
    return False


def event_id(received: Received, body: dict[str, Any]) -> str:
    """It gives none."""
    return body_hash(received.raw)


class _Event(Shape):
    action: str
    sent_at: Any = Field(default=None, alias="_dt")
    payload: dict[str, Any]


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    action = body.get("action")
    if isinstance(action, str) and action not in CANCELS + CHANGES:
        return Told(action[:128])
    event = checked(_Event, body)
    told = stays.booking_of(event.payload, instant(event.sent_at) or received_at, event_id)
    if told is None:
        fault = {"field": "payload.id", "message": "is required, or payload._id"}
        raise Refusal(422, "invalid_body", "the event names no reservation", [fault])
    if event.action in CANCELS:
        return Told(event.action, replace(told, status=ReservationStatus.CANCELLED))
    if event.action == REACTIVATES and told.status is None:
        return Told(event.action, fetch=told.reservation_id)  # a stay again, but of which kind?
    return Told(event.action, told, fetch=told.reservation_id)
