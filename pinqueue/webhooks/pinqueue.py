"""Sender `pinqueue`: our own webhook shape, signed by Standard Webhooks 1.0.0.

Source of the signature: standard-webhooks.com, spec/standard-webhooks.md, `v1` (HMAC-SHA256).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from standardwebhooks import Webhook
from starlette.datastructures import Headers

from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal

TYPES = ("reservation.created", "reservation.updated", "reservation.cancelled")

_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{10}")
_LONGEST_HEADER, _MOST_SIGNATURES = 2048, 10
_TOLERANCE = 300  # seconds, as every official library has it


def verify(secrets: Sequence[str], raw: bytes, headers: Headers) -> bool:
    """Whether one of the secrets signed these very bytes within the last (or next) five minutes."""
    values = [headers.getlist(f"webhook-{name}") for name in ("id", "timestamp", "signature")]
    if any(len(value) != 1 for value in values):
        return False
    (event_id,), (timestamp,), (signature,) = values
    if not (_ID.fullmatch(event_id) and _TIMESTAMP.fullmatch(timestamp)):
        return False
    if len(signature) > _LONGEST_HEADER:
        return False
    tokens = [token for token in signature.split(" ") if token.startswith("v1,")]
    verified = False
    for token in tokens[:_MOST_SIGNATURES]:  # one at a time: junk cannot hide a good one
        for secret in secrets:
            signed = {"webhook-id": event_id, "webhook-timestamp": timestamp}
            signed["webhook-signature"] = token
            # No early exit: which secret fitted must not show in the time it takes.
            verified |= _fits(secret, raw, signed)
    return verified


def _fits(secret: str, raw: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(raw, headers, json_parse=False)
    except Exception:
        # The library raises five kinds of exceptions besides its own on unauthenticated junk
        # (reliability.md 1.3). Whatever it is, the request is not verified.
        return False
    return True


def clock_is_off(headers: Headers, now: datetime) -> bool:
    """Whether its time alone keeps a request from verifying: a reason to log, never to tell."""
    sent_at = headers.get("webhook-timestamp", "")
    return bool(_TIMESTAMP.fullmatch(sent_at)) and abs(int(sent_at) - now.timestamp()) > _TOLERANCE


def event_id(headers: Headers) -> str:
    """The id of the event, the same on every retry; verify() has checked its form."""
    return headers["webhook-id"]


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


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class EventGuest(_Strict):
    name: str | None = None
    phone: str | None = None


class EventData(_Strict):
    reservation_id: Id
    listing_id: Id | None = None
    status: Literal["pending", "confirmed", "cancelled"] | None = None
    check_in: LocalTime | None = None
    check_out: LocalTime | None = None
    updated_at: Instant | None = None
    guest: EventGuest | None = None


class Event(_Strict):
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


def read(event_id: str, body: dict[str, Any]) -> tuple[str, Booking | None]:
    """The event's type and the stay it tells of; None for a type we do not know.

    Raises Refusal 422 that names each field and its remedy.
    """
    kind = body.get("type")
    if isinstance(kind, str) and kind not in TYPES:
        return kind[:128], None
    try:
        event = Event.model_validate(body)
    except ValidationError as error:
        raise Refusal(
            422,
            "invalid_body",
            "the body does not have the shape of this sender",
            [
                {"field": ".".join(str(p) for p in fault["loc"]) or "data", "message": fault["msg"]}
                for fault in error.errors(include_url=False, include_input=False)
            ],
        ) from None
    return event.type, _booking(event_id, event)


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
