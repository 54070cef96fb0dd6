"""Sender `guesty`: webhooks of both generations, signed as Svix signs.

Source: open-api-docs.guesty.com/docs: webhooks-reservations, reservation-webhooks-migration-guide.
The first generation tells a whole reservation, the second a part of it, in shapes that differ from
one public report to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from starlette.datastructures import Headers

from pinqueue.fetchers.guesty import booking_of, id_of
from pinqueue.fetchers.reading import identifier, instant, part
from pinqueue.webhooks import standard
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Shape, Told, checked

SECRET_IN_PATH, ID_NAMES_DELIVERY = False, True
_EVENT = re.compile(
    r"reservation(\.new|\.created|\.updated|\.cancell?ed|_update_shortlist)(\.v[0-9]+)?"
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def verify(secrets: Sequence[str], received: Received) -> bool:
    return standard.verify(secrets, received, "svix")


def clock_is_off(headers: Headers, now: datetime) -> bool:
    return standard.clock_is_off(headers, now, "svix")


def event_id(received: Received, body: dict[str, Any]) -> str:
    """The same on every retry; verify() has checked its form."""
    return received.headers["svix-id"]


class _Event(Shape):
    event: Annotated[str, Field(min_length=1, max_length=128)]


def read(event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
    """A part, in whatever order: where there is an API, it knows better."""
    kind = body.get("event")
    if isinstance(kind, str) and not _EVENT.fullmatch(kind):
        return Told(kind[:128])
    event = checked(_Event, body)
    for reservation, found in _named(body):
        if found is not None and _ID.fullmatch(found):
            told_at = _told_at(body, reservation) or received_at
            return Told(event.event, booking_of(reservation, found, told_at, event_id), fetch=found)
    fault = {"field": "data.reservationId", "message": "the id of the reservation is missing"}
    raise Refusal(422, "invalid_body", "the body does not have the shape of this sender", [fault])


def _named(body: dict[str, Any]) -> Iterator[tuple[Any, str | None]]:
    """Where a reservation may lie, and the id it has there. An `id` beside one is the event's."""
    data = part(body, "data")
    for reservation in (part(body, "reservation"), part(data, "reservation")):
        yield reservation, id_of(reservation) or identifier(part(reservation, "id"))
    yield data, id_of(data) or identifier(part(data, "id"))
    yield body, identifier(body.get("reservationId"))


def _told_at(body: dict[str, Any], reservation: Any) -> datetime | None:
    """When it was published, or changed, whichever the generation tells."""
    published = (part(place, "publishedAt") for place in (body, body.get("meta"), body.get("data")))
    changed = part(reservation, "lastUpdatedAt")
    return next((at for at in map(instant, (*published, changed)) if at), None)
