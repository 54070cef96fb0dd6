"""Taking webhooks: one file per sender verifies and reads; this one stores and answers.

The order is fixed: size, content type, signature over the raw bytes, strict JSON, shape, then one
transaction. A 2xx leaves only after COMMIT. Answers follow reliability.md (b).
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime
from types import ModuleType
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pinqueue import logs, reservations, store
from pinqueue.db import Database, Session
from pinqueue.errors import BookingInvalid, Conflict, DatabaseUnavailable
from pinqueue.models import Source
from pinqueue.reservations import Booking, Planner
from pinqueue.webhooks import pinqueue
from pinqueue.webhooks.body import Refusal, parse

log = logs.get(__name__)

SENDERS: dict[str, ModuleType] = {"pinqueue": pinqueue}
"""By source kind. A sender is a module with `verify`, `event_id` and `read`."""

BODY_WITHIN, ANSWER_WITHIN = 10.0, 1.5
"""Seconds. The shortest patience found among senders is 2 s (Cloudbeds)."""

UNAUTHORIZED = {"error": "unauthorized"}
"""The same for every failed authentication: an answer must not say what was wrong."""


async def receive(request: Request) -> Response:
    """`POST /webhooks/{source}`"""
    db: Database = request.state.db
    planner: Planner = request.state.planner
    source_id = request.path_params["source"]
    try:
        raw = await _body(request)
        async with asyncio.timeout(ANSWER_WITHIN), db.transaction() as session:
            outcome = await _take(session, planner, source_id, raw, request)
    except Refusal as refusal:
        return await _refused(db, source_id, refusal)
    except (DatabaseUnavailable, TimeoutError) as error:
        log.warning("webhook-unavailable", source=source_id, reason=str(error))
        return _answer(503, "unavailable", "try again later", headers={"Retry-After": "30"})
    log.info("webhook-answered", source=source_id, outcome=outcome)
    return JSONResponse({"status": outcome})


async def _body(request: Request) -> bytes:
    content_type = request.headers.get("content-type", "").split(";")
    parameters = {p.strip().lower().replace('"', "") for p in content_type[1:]}
    if content_type[0].strip().lower() != "application/json" or parameters - {"charset=utf-8", ""}:
        raise Refusal(415, "unsupported_media_type", "send application/json in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "unsupported_encoding", "send the body uncompressed")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.body()
    except TimeoutError:
        raise Refusal(408, "request_timeout", "the body did not arrive in time") from None
    except ClientDisconnect:
        raise Refusal(400, "incomplete_body", "the body did not arrive whole") from None


async def _take(
    session: Session, planner: Planner, source_id: str, raw: bytes, request: Request
) -> str:
    """Store an event and what it causes; returns what became of it."""
    source, now = await _open_source(session, source_id)
    sender = SENDERS[source.kind]
    if not sender.verify(_secrets(planner, source, now), raw, request.headers):
        raise Refusal(401, "unauthorized", "")
    body = parse(raw)
    event_id = sender.event_id(request.headers)
    kind, booking = sender.read(event_id, body)
    digest = hashlib.sha256(raw).digest()
    event_row = await store.insert_event(session, source.id, event_id, digest, kind, body)
    if event_row is None:
        return await _repeat(session, source.id, event_id, digest)
    return await apply(session, planner, source.id, event_row, booking, now)


async def apply(
    session: Session,
    planner: Planner,
    source_id: str,
    event_row: int,
    booking: Booking | None,
    now: datetime,
) -> str:
    """Let a stored event have its effect; returns its outcome, which the event's row keeps."""
    if booking is None:
        return "ignored"
    try:
        outcome = await reservations.receive(session, planner, source_id, booking, now)
    except BookingInvalid as error:
        details = [{"field": f"data.{error.field}", "message": str(error)}]
        raise Refusal(422, "invalid_booking", str(error), details) from None
    except Conflict as error:
        raise Refusal(409, "conflict", str(error)) from None
    if outcome == "unmapped":
        await store.record(
            session,
            f"source:{source_id}",
            "webhook:unmapped",
            reservation_id=booking.reservation_id,
            listing_id=booking.listing_id,
        )
    await store.set_event_outcome(
        session, event_row, outcome, booking.reservation_id, booking.listing_id
    )
    return outcome


async def adopt_unmapped(session: Session, planner: Planner, listing_id: str) -> int:
    """Apply the events that waited for a listing, now that it is set up; returns how many."""
    waiting = await store.unmapped_events(session, listing_id)
    for event in waiting:
        source, now = await _open_source(session, event.source_id)
        _, booking = SENDERS[source.kind].read(event.event_id, event.body)
        await apply(session, planner, source.id, event.id, booking, now)
    return len(waiting)


async def _open_source(session: Session, source_id: str) -> tuple[Source, datetime]:
    found = await store.source_and_now(session, source_id)
    if found is None:
        raise Refusal(404, "unknown_source", "there is no webhook source by that name")
    if not found[0].enabled:
        raise Refusal(503, "source_disabled", "this source is switched off for now")
    return found


def _secrets(planner: Planner, source: Source, now: datetime) -> list[str]:
    sealed = [source.secret]
    if source.previous_secret is not None and (source.previous_secret_until or now) > now:
        sealed.append(source.previous_secret)
    return [planner.sealer.open(f"source:{source.id}", secret) for secret in sealed]


async def _repeat(session: Session, source_id: str, event_id: str, digest: bytes) -> str:
    if await store.event_body_sha256(session, source_id, event_id) != digest:
        raise Refusal(
            409, "event_id_reused", "this event id came before with another body: use a new one"
        )
    return "duplicate"


AUDITED = {"invalid_booking", "conflict", "event_id_reused"}
"""Refusals of authentic events: a person should look at the sender."""


async def _refused(db: Database, source_id: str, refusal: Refusal) -> Response:
    log.info("webhook-refused", source=source_id, status=refusal.status, code=refusal.code)
    if refusal.status == 401:
        return JSONResponse(UNAUTHORIZED, 401)
    if refusal.code in AUDITED:
        try:
            async with asyncio.timeout(ANSWER_WITHIN), db.transaction() as session:
                await store.record(
                    session,
                    f"source:{source_id}",
                    "webhook:refused",
                    code=None,
                    reason=refusal.message,
                )
        except (DatabaseUnavailable, TimeoutError) as error:
            log.error("webhook-refusal-not-audited", source=source_id, reason=str(error))
    headers = {"Retry-After": "300"} if refusal.status == 503 else None
    return _answer(refusal.status, refusal.code, refusal.message, refusal.details, headers)


def _answer(
    status: int,
    code: str,
    message: str,
    details: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message, "details": details or []}
    return JSONResponse({"error": error}, status, headers)
