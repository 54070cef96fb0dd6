"""Taking webhooks: one file per sender verifies and reads; this one stores and answers.

The order is fixed: size, content type, signature over the raw bytes, strict JSON, shape, then one
transaction. A 2xx leaves only after COMMIT. Answers follow reliability.md (b). Who proves nothing
too often is held off before the database is asked (`limits.py`).
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pinqueue import fetching, logs, reservations, store
from pinqueue.arrivals import Arrival
from pinqueue.db import Database, Session
from pinqueue.errors import BookingInvalid, Conflict, DatabaseUnavailable
from pinqueue.inventory import NAME
from pinqueue.models import Source
from pinqueue.patience import within
from pinqueue.reservations import Booking, Planner
from pinqueue.store import events, sources
from pinqueue.store.sources import SeenSource
from pinqueue.webhooks import (
    cloudbeds,
    guesty,
    hospitable,
    hostaway,
    lodgify,
    pinqueue,
    smoobu,
    stays,
)
from pinqueue.webhooks.body import Refusal, parse, receive_body
from pinqueue.webhooks.known_sources import Sources
from pinqueue.webhooks.limits import Buckets, Limits, stranger
from pinqueue.webhooks.sender import Received, Sender, Told

log = logs.get(__name__)

SENDERS: dict[str, Sender] = {
    "pinqueue": pinqueue,
    "stays": stays,
    "hospitable": hospitable,
    "hostaway": hostaway,
    "lodgify": lodgify,
    "guesty": guesty,
    "cloudbeds": cloudbeds,
    "smoobu": smoobu,
}
"""By source kind."""

ANSWER_WITHIN = 1.5
"""Seconds. The shortest patience found among senders is 2 s (Cloudbeds). A COMMIT that gets through
after that makes the sender's next try a duplicate."""

UNAUTHORIZED = {"error": "unauthorized"}
"""The same for every failed authentication: an answer must not say what was wrong."""


@dataclass
class Known:
    """What is known of a webhook so far, for its log line and its count."""

    wait: float
    """Seconds, if it proves nothing: its address has failed too often."""
    kind: str = "unknown"
    proven: bool = False
    """Whether it is from the source it says."""
    by_old_secret: bool = False
    """Whether only the secret before the present one proves it."""
    event_id: str | None = None
    reservation_id: str | None = None

    def ids(self) -> dict[str, str]:
        found = {"event_id": self.event_id, "reservation_id": self.reservation_id}
        return {name: value for name, value in found.items() if value is not None}


async def receive(request: Request) -> Response:
    """`POST /webhooks/{source}`, and `/webhooks/{source}/{secret}` for senders that sign nothing"""
    strangers: Buckets = request.state.limits.strangers
    address = stranger(request.client.host if request.client else None)
    # Taken until it is proven who asks: of a thousand at once none slips through.
    known = Known(strangers.take(address, time.monotonic()))
    try:
        response, outcome = await _receive(request, known)
    except Exception:
        request.state.metrics.webhook_answered(known.kind, 500, "internal")
        raise
    finally:
        if known.proven and not known.wait:
            strangers.give_back(address)
    request.state.metrics.webhook_answered(known.kind, response.status_code, outcome)
    if known.by_old_secret:
        request.state.metrics.webhook_by_old_secret(known.kind)
    return response


async def _receive(request: Request, known: Known) -> tuple[Response, str]:
    """The answer, and what became of the event in a word."""
    db: Database = request.state.db
    source_id = request.path_params["source"]
    note = log.bind(
        request_id=request.state.request_id, ip=request.client.host if request.client else None
    )
    try:
        if not NAME.fullmatch(source_id):
            raise _unknown_source()
        note = note.bind(source=source_id)
        raw = await receive_body(request)
        note = note.bind(size=len(raw))
        received = Received(raw, request.headers, request.path_params.get("secret", ""))
        outcome = await within(ANSWER_WITHIN, _take(request, source_id, received, known))
    except Refusal as refusal:
        tell = note.debug if refusal.status == 429 else note.info  # no flood of lines besides
        tell("webhook-refused", status=refusal.status, code=refusal.code, **known.ids())
        return await _refused(db, source_id, refusal), refusal.code
    except (DatabaseUnavailable, TimeoutError) as error:
        note.warning("webhook-unavailable", reason=str(error), **known.ids())
        answer = _answer(503, "unavailable", "try again later", headers={"Retry-After": "30"})
        return answer, "unavailable"
    old = {"by_old_secret": True} if known.by_old_secret else {}
    note.info("webhook-answered", outcome=outcome, **known.ids(), **old)
    return JSONResponse({"status": outcome}), outcome


async def _take(request: Request, source_id: str, received: Received, known: Known) -> str:
    """Store an event and what it causes; returns what became of it."""
    db: Database = request.state.db
    planner: Planner = request.state.planner
    limits: Limits = request.state.limits
    if known.wait:
        await _hold_off(db, planner, limits, source_id, received, known.wait)
    seen: Sources = request.state.sources
    try:
        taken = _read(planner, limits, seen.lately(source_id), received, known)
    except NotLetIn:
        taken = _read(planner, limits, await seen.now(source_id), received, known)
    arrival = _arrival(taken)
    if arrival is not None and await request.state.arrivals.take(arrival):
        return "accepted"
    async with db.transaction() as session:
        if await sources.is_as_seen(session, taken.by):
            return await _store(session, planner, taken)
    # The source was changed a moment ago: what is known of it now decides, of its secret too.
    seen.forget(source_id)
    limits.sources.give_back(source_id)
    return await _take(request, source_id, received, known)


async def _hold_off(
    db: Database,
    planner: Planner,
    limits: Limits,
    source_id: str,
    received: Received,
    wait: float,
) -> None:
    """Refuse what comes from an address that proved nothing too often, unless it proves itself."""
    seen = await limits.source(db, source_id, time.monotonic())
    try:
        _prove(planner, seen, received)
    except Refusal:
        raise _too_many("too many requests that prove nothing", wait) from None


class NotLetIn(Refusal):
    """By what is known of its source."""


@dataclass(frozen=True)
class Taken:
    """An event, proven and read."""

    by: SeenSource
    event_id: str
    body: dict[str, Any]
    body_sha256: bytes
    told: Told


def _read(
    planner: Planner,
    limits: Limits,
    seen: SeenSource | None,
    received: Received,
    known: Known,
) -> Taken:
    """Raises Refusal: NotLetIn before it counts as one of the source's events."""
    known.kind = seen.source.kind if seen else known.kind
    by, known.by_old_secret = _prove(planner, seen, received)
    source, known.proven = by.source, True
    if not source.enabled:
        message = "this source is switched off for now"
        raise NotLetIn(503, "source_disabled", message, retry_after=300)
    if wait := limits.sources.take(source.id, time.monotonic()):
        raise _too_many("too many events", wait)
    body, sender = parse(received.raw), SENDERS[source.kind]
    known.event_id = event_id = sender.event_id(received, body)
    told = sender.read(event_id, body, by.at)
    if named := told.booking.reservation_id if told.booking else told.fetch:
        known.reservation_id = reservations.own_id(source, named)
    return Taken(by, event_id, body, hashlib.sha256(received.raw).digest(), told)


def _arrival(taken: Taken) -> Arrival | None:
    """What may be a new stay, told whole."""
    source, told = taken.by.source, taken.told
    if told.booking is None or source.kind in reservations.TWO_IDS:
        return None
    if told.fetch is not None and source.api is not None:
        return None
    reservation_id = reservations.own_id(source, told.booking.reservation_id)
    return Arrival(
        source_id=source.id,
        source_version=taken.by.version,
        event_id=taken.event_id,
        type=told.type,
        body=taken.body,
        body_sha256=taken.body_sha256,
        booking=replace(told.booking, reservation_id=reservation_id),
        now=taken.by.at,
    )


async def _store(session: Session, planner: Planner, taken: Taken) -> str:
    source, told = taken.by.source, taken.told
    event_row = await events.insert_event(
        session, source.id, taken.event_id, taken.body_sha256, told.type, taken.body
    )
    if event_row is None:
        return await _repeat(session, source, taken.event_id, taken.body_sha256, told)
    return await apply(session, planner, source, event_row, told, taken.by.at)


async def apply(
    session: Session, planner: Planner, source: Source, event_row: int, told: Told, now: datetime
) -> str:
    """Let a stored event have its effect; returns its outcome, which the event's row keeps."""
    if told.fetch is not None and source.api is not None:
        reservation_id = reservations.own_id(source, told.fetch)
        await fetching.put(session, event_row, told.fetch_after)
        await events.set_event_outcome(session, event_row, "fetching", reservation_id, None)
        return "fetching"
    if told.booking is not None:
        return await _apply(session, planner, source, event_row, told.booking, now)
    if told.fetch is None:
        return "ignored"
    await store.record(
        session,
        f"source:{source.id}",
        "webhook:incomplete",
        reservation_id=reservations.own_id(source, told.fetch),
        reason="the event names a booking only, and the source has no API to read it from",
    )
    await events.set_event_outcome(
        session, event_row, "incomplete", reservations.own_id(source, told.fetch), None
    )
    return "incomplete"


async def _apply(
    session: Session,
    planner: Planner,
    source: Source,
    event_row: int,
    booking: Booking,
    now: datetime,
) -> str:
    source_id = source.id
    booking = await reservations.under_own_id(session, source, booking)
    told = {"reservation_id": booking.reservation_id, "event_id": booking.event_id}
    try:
        outcome = await reservations.receive(session, planner, source_id, booking, now)
    except BookingInvalid as error:
        details = [{"field": f"data.{error.field}", "message": str(error)}]
        audit = {**told, "reason": str(error)}
        raise Refusal(422, "invalid_booking", str(error), details, audit=audit) from None
    except Conflict as error:
        # What it contradicts may be another sender's: that is for our people only.
        raise Refusal(
            409,
            "conflict",
            "this contradicts what is stored already",
            audit={**told, "reason": str(error)},
        ) from None
    if outcome in ("unmapped", "incomplete"):
        await store.record(
            session,
            f"source:{source_id}",
            f"webhook:{outcome}",
            reservation_id=booking.reservation_id,
            listing_id=booking.listing_id,
        )
    await events.set_event_outcome(
        session, event_row, outcome, booking.reservation_id, booking.listing_id
    )
    return outcome


async def adopt_unmapped(session: Session, planner: Planner, listing_id: str) -> int:
    """Apply the events that waited for a listing, now that it is set up; returns how many.

    One that cannot be is audited and keeps neither the others nor the listing from being taken.
    """
    taken = 0
    now = await store.now(session)
    for event in await events.unmapped_events(session, listing_id):
        event_row, reservation_id = event.id, event.reservation_id
        source = await session.get_one(Source, event.source_id)
        sender = SENDERS[source.kind]
        try:
            async with session.begin_nested():
                told = sender.read(event.event_id, event.body, event.received_at)
                await apply(session, planner, source, event_row, told, now)
            taken += 1
        except Refusal as refusal:
            await _audit(session, source.id, refusal)
            await events.set_event_outcome(
                session, event_row, "ignored", reservation_id or "", listing_id
            )
    return taken


def _prove(
    planner: Planner, seen: SeenSource | None, received: Received
) -> tuple[SeenSource, bool]:
    """What was seen, if what was received proves to be from there, and whether only by the old
    secret; raises NotLetIn."""
    if seen is None:
        raise _unknown_source()
    source, now = seen.source, seen.at
    sender = SENDERS[source.kind]
    if received.path_secret and not sender.SECRET_IN_PATH:
        raise _unknown_source()
    received, secrets = replace(received, at=now), _secrets(planner, source, now)
    if not sender.verify(secrets, received):
        clock = sender.clock_is_off(received.headers, now)
        raise NotLetIn(401, "clock" if clock else "unauthorized")
    return seen, len(secrets) > 1 and not sender.verify(secrets[:1], received)


def _secrets(planner: Planner, source: Source, now: datetime) -> list[str]:
    """The present one first."""
    sealed = [source.secret]
    if source.previous_secret is not None and (source.previous_secret_until or now) > now:
        sealed.append(source.previous_secret)
    return [planner.sealer.open_often(f"source:{source.id}", secret) for secret in sealed]


async def _repeat(
    session: Session, source: Source, event_id: str, digest: bytes, told: Told
) -> str:
    if not SENDERS[source.kind].ID_NAMES_DELIVERY:
        # A retry, or another change that the sender tells in the same words: its API knows.
        if told.fetch is not None and source.api is not None:
            await fetching.put_again(session, source.id, event_id, told.fetch_after)
        return "duplicate"
    if await events.event_body_sha256(session, source.id, event_id) != digest:
        message = "this event id came before with another body: use a new one"
        audit = {"event_id": event_id, "reason": "the sender used an event id for two bodies"}
        raise Refusal(409, "event_id_reused", message, audit=audit)
    return "duplicate"


def _unknown_source() -> NotLetIn:
    return NotLetIn(404, "unknown_source", "there is no webhook source by that name")


def _too_many(what: str, wait: float) -> Refusal:
    return Refusal(429, "too_many_requests", f"{what}: wait", retry_after=wait)


async def _refused(db: Database, source_id: str, refusal: Refusal) -> Response:
    if refusal.status == 401:
        return JSONResponse(UNAUTHORIZED, 401)
    if refusal.audit is not None:
        try:
            await within(ANSWER_WITHIN, _audit_alone(db, source_id, refusal))
        except (DatabaseUnavailable, TimeoutError) as error:
            log.error("webhook-refusal-not-audited", source=source_id, reason=str(error))
    headers = {"Connection": "close"} if refusal.status == 408 else {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refusal.retry_after))
    return _answer(refusal.status, refusal.code, refusal.message, refusal.details, headers)


async def _audit_alone(db: Database, source_id: str, refusal: Refusal) -> None:
    async with db.transaction() as session:
        await _audit(session, source_id, refusal)


async def _audit(session: Session, source_id: str, refusal: Refusal) -> None:
    audit: dict[str, Any] = refusal.audit or {"reason": refusal.message}
    await store.record(session, f"source:{source_id}", "webhook:refused", **audit)


def _answer(
    status: int,
    code: str,
    message: str,
    details: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message, "details": details or []}
    return JSONResponse({"error": error}, status, headers)
