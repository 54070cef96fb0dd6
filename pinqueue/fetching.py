"""Reading what a webhook only named, and comparing all bookings now and then with their sender's.

Nothing here removes a booking because it is absent: only what the sender explicitly calls cancelled
is. A list that is empty or far shorter than the last one raises an alarm instead (domain.md, F1).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from pinqueue import alarms, logs, reservations, store
from pinqueue.db import Database, Session
from pinqueue.errors import BookingInvalid, Conflict, SourceError
from pinqueue.fetchers import ENDS, FETCHERS, Api, Client, http_client
from pinqueue.fetchers.reading import Rooms
from pinqueue.lifecycle import ReservationStatus
from pinqueue.models import Source, WebhookEvent
from pinqueue.reservations import Booking, Planner
from pinqueue.store import events, sources, stays

log = logs.get(__name__)

FETCH = "fetch_booking"
"""The queue and the task."""
EVERY, AGAIN = timedelta(minutes=30), timedelta(minutes=5)
"""Between two comparisons, and after one that failed."""
AT_START, LOOK_EVERY = timedelta(minutes=1), timedelta(minutes=1)
"""A worker that starts compares what was not compared just now, and looks what is due so often."""
PAST, AHEAD = timedelta(days=2), timedelta(days=400)
SHRUNKEN = 0.5
"""Fewer than half the bookings of the last time: more likely a fault of the list than cancelled."""


async def put(session: Session, event_row: int, after: timedelta = timedelta(0)) -> None:
    """Have the booking that an event names read once its transaction is committed, and so long
    `after` it as the sender's API may not know yet what its webhook tells."""
    event = await session.get_one(WebhookEvent, event_row)
    at = await store.now(session) + after if after else None
    # Before what is posted to endpoints: those that hang must not keep us from knowing of a stay.
    event.job_id = await alarms.defer(session, FETCH, at, priority=1, event_row=event_row)
    await session.flush()


async def put_again(session: Session, source_id: str, event_id: str, after: timedelta) -> None:
    """The same for an event that came before, unless its booking is still to be read."""
    event = await events.event_for_update(session, source_id, event_id)
    if event.outcome != "fetching":
        event.outcome = "fetching"
        await put(session, event.id, after)


async def give_up(session: Session, event: WebhookEvent, why: str) -> None:
    """No job reads the booking that an event names any more; comparing may still find it."""
    event.outcome = "incomplete"
    await store.record(
        session,
        f"source:{event.source_id}",
        "webhook:incomplete",
        reservation_id=event.reservation_id,
        reason=why,
    )


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
        read = await FETCHERS[source.kind].booking(client, named)
    if read is None and event.type in ENDS.get(source.kind, ()):
        read = Rooms(named, [_over(named, asked_at)])
    async with db.transaction() as session:
        outcome, listing_id = "fetched", None
        if read is None:
            # Absence is not cancellation: the stay keeps its PIN until somebody says otherwise.
            await _record(session, source, "source:booking_missing", event.reservation_id)
            # The id may name something else than a booking: what changed is in the list, though.
            await sources.reconcile_again(session, source.id, EVERY)
        else:
            outcome, listing_id = _outcome(await _apply(session, planner, source, read, asked_at))
        await events.set_event_outcome(
            session, event_row, outcome, event.reservation_id, listing_id
        )
    log.info("booking-fetched", source=source.id, event_row=event_row, outcome=outcome)


def _outcome(applied: Sequence[tuple[str, Booking]]) -> tuple[str, str | None]:
    """What became of an event whose booking was read: what still needs a person comes first."""
    for wanted in ("unmapped", "incomplete", "refused"):
        for outcome, booking in applied:
            if outcome == wanted:
                return ("ignored" if outcome == "refused" else outcome), booking.listing_id
    return "fetched", applied[0][1].listing_id if applied else None


async def reconcile(db: Database, planner: Planner, *, every: timedelta = EVERY) -> None:
    """Compare every source's bookings with its sender's that was not compared for so long."""
    async with db.transaction() as session:
        due = await sources.sources_to_reconcile(session, every)
    for source_id in due:
        async with db.transaction() as session:
            source = await sources.claim_reconcile(session, source_id, every)
        if source is not None and source.kind in FETCHERS:
            await _reconcile(db, planner, source)


async def _reconcile(db: Database, planner: Planner, source: Source) -> None:
    try:
        listed, changed = await _compare(db, planner, source)
    except SourceError as error:
        log.warning("reconcile-failed", source=source.id, reason=str(error))
        async with db.transaction() as session:
            await sources.reconcile_again(session, source.id, EVERY - AGAIN)
        return
    async with db.transaction() as session:
        before = source.bookings_listed
        if before is None:  # never listed yet: what its webhooks told is all that is known of it
            before = await stays.stays_to_come(session, source.id)
            shrunken = before > 0 and listed == 0
        else:
            shrunken = listed < before * SHRUNKEN
        if shrunken:
            fault = f"it lists {listed} bookings, after {before}: none is removed for that"
            await sources.set_list_fault(session, source.id, fault)
            await _record(session, source, "source:list_shrunken", before=before, listed=listed)
        else:
            await sources.set_bookings_listed(session, source.id, listed)
    log.info("reconciled", source=source.id, listed=listed, changed=changed)


async def _compare(db: Database, planner: Planner, source: Source) -> tuple[int, int]:
    """How many bookings the sender lists, and how many of them we had not, or otherwise."""
    listed = changed = 0
    async with db.transaction() as session:
        asked_at = await store.now(session)
    since, until = (asked_at - PAST).date(), (asked_at + AHEAD).date()
    async with _client(db, planner, source, asked_at) as client:
        async for read in FETCHERS[source.kind].bookings(client, since, until):
            listed += 1
            async with db.transaction() as session:
                applied = await _apply(session, planner, source, read, asked_at)
            changed += any(outcome == "accepted" for outcome, _ in applied)
    return listed, changed


async def _apply(
    session: Session, planner: Planner, source: Source, read: Booking | Rooms, asked_at: datetime
) -> list[tuple[str, Booking]]:
    """Apply what was read of one reservation; returns what became of each of its stays."""
    told = [read] if isinstance(read, Booking) else list(read.stays)
    if isinstance(read, Rooms):
        theirs = {stay.reservation_id for stay in told}
        ours = await stays.rooms_of(
            session, source.id, reservations.own_id(source, read.reservation_id)
        )
        named = [id_.removeprefix(f"{source.id}:") for id_ in ours]
        told += [_over(id_, asked_at) for id_ in named if id_ not in theirs]
    return [(await _apply_stay(session, planner, source, stay), stay) for stay in told]


async def _apply_stay(session: Session, planner: Planner, source: Source, booking: Booking) -> str:
    booking = await reservations.under_own_id(session, source, booking)
    now = await store.now(session)
    try:
        async with session.begin_nested():
            outcome = await reservations.receive(
                session, planner, source.id, booking, now, only_if_other=True
            )
    except (BookingInvalid, Conflict) as error:
        await _record(
            session, source, "source:booking_refused", booking.reservation_id, reason=str(error)
        )
        return "refused"
    if outcome == "accepted":
        await _record(session, source, "source:booking_read", booking.reservation_id)
    return outcome


def _over(reservation_id: str, asked_at: datetime) -> Booking:
    return Booking(reservation_id, ReservationStatus.CANCELLED, asked_at, asked_at, "api")


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
    """A client of the source's API. What it keeps, e.g. a token, is kept with the source. Whether
    it could be read is on its row, and audited when that changes: an API that is away for a night
    is one line, not a thousand."""
    sealed, owner = source.api or b"", f"api:{source.id}"
    stored = json.loads(planner.sealer.open(owner, sealed))
    kept = stored.pop("kept", {})

    async def save(kept: Mapping[str, str]) -> None:
        nonlocal sealed
        new = planner.sealer.seal(owner, json.dumps({**stored, "kept": dict(kept)}))
        async with db.transaction() as session:
            if await sources.replace_api(session, source.id, sealed, new):
                sealed = new

    error: str | None = None
    try:
        async with http_client() as http:
            yield Client(http, Api(**stored), asked_at, kept, save)
    except SourceError as failed:
        error = str(failed)
        raise
    finally:
        async with db.transaction() as session:
            if await sources.set_api_error(session, source.id, error):
                event = "source:api_failed" if error else "source:api_answers"
                await _record(session, source, event, reason=error)
