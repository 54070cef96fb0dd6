"""What a sender is: a module that verifies a request and reads its body, and nothing else.

To add one, write `webhooks/NAME.py` with the names of `Sender`, list it in `SENDERS`, add its kind
to `models.SOURCE_KINDS` with a migration, and, where its API can be read, `fetchers/NAME.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers

from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal


@dataclass(frozen=True)
class Received:
    """A request as it came, before anything of it is believed."""

    raw: bytes
    headers: Headers
    path_secret: str = ""
    """What follows the source's name in the path; empty where nothing does."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When, by the database's clock once that is known: ours may be wrong."""


@dataclass(frozen=True)
class Told:
    """What an event says: nothing we act on, a booking, or one to be read from the sender's API."""

    type: str
    booking: Booking | None = None
    """Its reservation_id as the sender writes it."""
    fetch: str | None = None
    """The sender's id of a booking that the event names but does not tell, or tells in part. It is
    read where the source has an API; `booking`, if any, is applied where it has none."""
    fetch_after: timedelta = timedelta(0)
    """How long the sender's API may not know yet what its webhook tells."""


class Sender(Protocol):
    """One kind of source."""

    SECRET_IN_PATH: bool
    """Whether it proves itself by a secret at the end of the path."""
    ID_NAMES_DELIVERY: bool
    """Whether one event id with two bodies is an error of the sender."""

    def verify(self, secrets: Sequence[str], received: Received) -> bool:
        """Whether one of the secrets proves where the request comes from."""

    def clock_is_off(self, headers: Headers, now: datetime) -> bool:
        """Whether its time alone keeps a request from verifying: a reason to log, never to tell."""

    def event_id(self, received: Received, body: dict[str, Any]) -> str:
        """What is the same on every retry of the event, at most 128 characters."""

    def read(self, event_id: str, body: dict[str, Any], received_at: datetime) -> Told:
        """What the event says; raises Refusal 422 that names each field and its remedy."""


AnyShape = TypeVar("AnyShape", bound="Shape")


class Shape(BaseModel):
    """What a body must have, without coercion; what it has besides is ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)


def checked(shape: type[AnyShape], body: dict[str, Any]) -> AnyShape:
    """The body in its shape; raises Refusal 422 with the field and the fault, never the input."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise Refusal(
            422,
            "invalid_body",
            "the body does not have the shape of this sender",
            [
                {"field": ".".join(str(p) for p in fault["loc"]) or "body", "message": fault["msg"]}
                for fault in error.errors(include_url=False, include_input=False)
            ],
        ) from None


def number_as_text(value: Any) -> Any:
    """For an id that its sender writes either way."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NumberedId = Annotated[str, BeforeValidator(number_as_text), Field(pattern=r"^[0-9]{1,20}$")]
"""The id of senders that count theirs, which some write as a text now and then."""


# How senders prove themselves


def knows_path(secrets_: Sequence[str], received: Received) -> bool:
    """Whether the request knows one of the path secrets, and the login after it where there is one
    (`SECRET USER:PASSWORD`, see inventory): for senders that sign nothing."""
    logins = received.headers.getlist("authorization")
    known = False
    for secret in secrets_:  # no early exit: which one fitted must not show in the time it takes
        path, _, login = secret.partition(" ")
        fits = _same(received.path_secret, path)
        if login:
            wanted = "Basic " + base64.b64encode(login.encode()).decode()
            fits &= len(logins) == 1 and _same(logins[0], wanted)
        known |= fits
    return known


def signed_hex(secrets_: Sequence[str], raw: bytes, signature: str) -> bool:
    """Whether the signature is the hex HMAC-SHA256 of these bytes under one of the secrets."""
    signed = False
    for secret in secrets_:
        signed |= _same(signature, hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest())
    return signed


def body_hash(raw: bytes) -> str:
    """An event id for senders that give none: a retry repeats the bytes."""
    return "sha256-" + hashlib.sha256(raw).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
