"""Reading what a webhook only named, and comparing all bookings now and then with their sender's.

Nothing here removes a booking because it is absent: only what the sender explicitly calls cancelled
is. A list that is empty or far shorter than the last one raises an alarm instead (domain.md, F1).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pinqueue import alarms, logs, reservations, store
from pinqueue.db import Database, Session
from pinqueue.errors import BookingInvalid, Conflict, SourceError
from pinqueue.fetchers import FETCHERS, Api, Client, http_client
from pinqueue.models import Source, WebhookEvent
from pinqueue.reservations import Booking, Planner

log = logs.get(__name__)

FETCH = "fetch_booking"
"""The queue and the task."""
EVERY, AGAIN = timedelta(minutes=30), timedelta(minutes=5)
"""Between two comparisons, and after one that failed."""
PAST, AHEAD = timedelta(days=2), timedelta(days=400)
SHRUNKEN = 0.5
"""Fewer than half the bookings of the last time: more likely a fault of the list than cancelled."""


async def put(session: Session, event_row: int) -> None:
    """Have the booking that an event names read once its transaction is committed."""
    event = await session.get_one(WebhookEvent, event_row)
    event.job_id = await alarms.defer(session, FETCH, event_row=event_row)
    await session.flush()


async def fetch(db: Database, planner: Planner, event_row: int) -> None:
    """Read the booking that an event names, and apply it. Raises SourceError."""
    async with db.transaction() as session:
        event = await session.get_one(WebhookEvent, event_row)
        source = await session.get_one(Source, event.source_id)
        asked_at = await store.now(session)
    if event.outcome != "fetching" or source.api is None or event.reservation_id is None:
        return
    async with _client(db, planner, source, asked_at) as client:
        named = event.reservation_id.removeprefix(f"{source.id}:")
        booking = await FETCHERS[source.kind].booking(client, named)
    async with db.transaction() as session:
        outcome = "fetched"
        if booking is None:
            # Absence is not cancellation: the stay keeps its PIN until somebody says otherwise.
            await _record(session, source, "source:booking_missing", event.reservation_id)
        else:
            outcome = await _apply(session, planner, source, booking)
            outcome = "fetched" if outcome in ("accepted", "unchanged") else outcome
        listing_id = booking.listing_id if booking else None
        await store.set_event_outcome(session, event_row, outcome, event.reservation_id, listing_id)
    log.info("booking-fetched", source=source.id, event_row=event_row, outcome=outcome)


async def reconcile(db: Database, planner: Planner, *, every: timedelta = EVERY) -> None:
    """Compare every source's bookings with its sender's that was not compared for so long."""
    async with db.transaction() as session:
        due = await store.sources_to_reconcile(session, every)
    for source_id in due:
        async with db.transaction() as session:
            source = await store.claim_reconcile(session, source_id, every)
        if source is not None and source.kind in FETCHERS:
            await _reconcile(db, planner, source)


async def _reconcile(db: Database, planner: Planner, source: Source) -> None:
    try:
        listed, changed = await _compare(db, planner, source)
    except SourceError as error:
        log.warning("reconcile-failed", source=source.id, reason=str(error))
        async with db.transaction() as session:
            await store.reconcile_again(session, source.id, EVERY - AGAIN)
            await _record(session, source, "source:reconcile_failed", reason=str(error))
        return
    async with db.transaction() as session:
        before = source.bookings_listed or 0
        if listed < before * SHRUNKEN:
            await _record(session, source, "source:list_shrunken", before=before, listed=listed)
        else:
            await store.set_bookings_listed(session, source.id, listed)
    log.info("reconciled", source=source.id, listed=listed, changed=changed)


async def _compare(db: Database, planner: Planner, source: Source) -> tuple[int, int]:
    """How many bookings the sender lists, and how many of them we had not, or otherwise."""
    listed = changed = 0
    async with db.transaction() as session:
        asked_at = await store.now(session)
    since, until = (asked_at - PAST).date(), (asked_at + AHEAD).date()
    async with _client(db, planner, source, asked_at) as client:
        async for booking in FETCHERS[source.kind].bookings(client, since, until):
            listed += 1
            try:
                async with db.transaction() as session:
                    outcome = await _apply(session, planner, source, booking)
            except (BookingInvalid, Conflict) as error:
                outcome = "refused"
                async with db.transaction() as session:
                    stay_id = reservations.own_id(source, booking.reservation_id)
                    await _record(
                        session, source, "source:booking_refused", stay_id, reason=str(error)
                    )
            changed += outcome == "accepted"
    return listed, changed


async def _apply(session: Session, planner: Planner, source: Source, booking: Booking) -> str:
    booking = replace(booking, reservation_id=reservations.own_id(source, booking.reservation_id))
    now = await store.now(session)
    outcome = await reservations.receive(
        session, planner, source.id, booking, now, only_if_other=True
    )
    if outcome == "accepted":
        await _record(session, source, "source:booking_read", booking.reservation_id)
    return outcome


async def _record(
    session: Session,
    source: Source,
    event: str,
    reservation_id: str | None = None,
    **detail: Any,
) -> None:
    await store.record(
        session, f"source:{source.id}", event, reservation_id=reservation_id, **detail
    )


@asynccontextmanager
async def _client(
    db: Database, planner: Planner, source: Source, asked_at: datetime
) -> AsyncIterator[Client]:
    sealed, owner = source.api or b"", f"api:{source.id}"
    stored = json.loads(planner.sealer.open(owner, sealed))
    kept = stored.pop("kept", {})

    async def save(kept: Mapping[str, str]) -> None:
        nonlocal sealed
        new = planner.sealer.seal(owner, json.dumps({**stored, "kept": dict(kept)}))
        async with db.transaction() as session:
            if await store.replace_api(session, source.id, sealed, new):
                sealed = new

    async with http_client() as http:
        yield Client(http, Api(**stored), asked_at, kept, save)
