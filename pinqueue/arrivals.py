"""New stays that are told at the same time, written down in one transaction.

Most of what senders tell is a stay that nobody knew, confirmed and whole. Alone it takes twenty
round trips; sixteen such together take four. All else is for `reservations.receive`, and so is
whatever comes in between: then nothing of it was written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from pinqueue import alarms, codes, logs, outcomes, pins, reservations
from pinqueue.db import Database, Session, is_away
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.locks import Window
from pinqueue.models import AccessCode, Listing
from pinqueue.patience import within
from pinqueue.reservations import Booking, Planner, Wish
from pinqueue.schedule import due_times
from pinqueue.store import arrivals as rows
from pinqueue.store.arrivals import Asked, Found, Rows, Stay
from pinqueue.together import Together

log = logs.get(__name__)

BATCH_WITHIN = 1.0
"""Seconds. A connection that hangs must not hold up all that come after: they get another."""
ANOTHER_FOR = 5
"""So many that wait are written down beside the batch that is under way: while the database is at
one half of all senders, we are at the other. Fewer are not worth a transaction of their own."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """A webhook that tells a stay, proven to be from its source. Of two that tell the same one is a
    repeat: they are not equal."""

    source_id: str
    source_version: str
    """As it was when it proved this."""
    event_id: str
    type: str
    body: dict[str, Any]
    body_sha256: bytes
    booking: Booking
    """Under our id of the stay."""
    now: datetime


class Arrivals:
    """Of one web process."""

    def __init__(self, db: Database, planner: Planner) -> None:
        self._db = db
        self._planner = planner
        self._together: Together[Arrival, bool] = Together(self._take, another_for=ANOTHER_FOR)

    async def take(self, arrival: Arrival) -> bool:
        """Whether it was a new stay, which is committed now with all that it causes."""
        return await self._together.ask(arrival)

    async def _take(self, asked: Sequence[Arrival]) -> Sequence[bool]:
        try:
            taken = await within(BATCH_WITHIN, self._write(_apart(asked)))
        except Exception as error:
            if isinstance(error, TimeoutError) or is_away(error):
                raise
            # Each is asked for again alone, so that none breaks another, and says what it broke on.
            log.info("arrivals-taken-apart", arrivals=len(asked), reason=type(error).__name__)
            return [False] * len(asked)
        return [arrival in taken for arrival in asked]

    async def _write(self, asked: Sequence[Arrival]) -> list[Arrival]:
        async with self._db.transaction() as session:
            return await _write(session, self._planner, asked)


class _Overtaken(Exception):
    """Somebody else came in between."""


@dataclass(frozen=True)
class _New:
    """A stay that is to be written down."""

    arrival: Arrival
    found: Found
    listing: Listing
    columns: dict[str, Any]
    wish: Wish

    @property
    def actor(self) -> str:
        return f"source:{self.arrival.source_id}"


def _apart(asked: Sequence[Arrival]) -> list[Arrival]:
    """Of those that may have to do with each other, the first."""
    seen: set[tuple[str, str | None]] = set()
    apart: list[Arrival] = []
    for arrival in asked:
        booking = arrival.booking
        marks = {
            ("event", f"{arrival.source_id} {arrival.event_id}"),
            ("stay", booking.reservation_id),
            ("listing", booking.listing_id),
        }
        if not marks & seen:
            apart.append(arrival)
        seen |= marks
    return sorted(apart, key=lambda arrival: arrival.booking.reservation_id)


async def _write(session: Session, planner: Planner, asked: Sequence[Arrival]) -> list[Arrival]:
    """Those that were taken. Raises where one was overtaken: then none is."""
    found = await rows.find(
        session,
        [
            Asked(
                one.source_id,
                one.source_version,
                one.event_id,
                one.booking.reservation_id,
                one.booking.listing_id or "",
            )
            for one in asked
        ],
    )
    new = [
        one
        for arrival, its in zip(asked, found, strict=True)
        if (one := _new(planner, arrival, its)) is not None
    ]
    if not new:
        return []
    told = Rows()
    for one in new:
        _tell(told, planner, one)
    written = await rows.write(session, told)
    if not written.whole:
        raise _Overtaken
    for one in new:
        if its := written.neighbours.get(one.columns["id"]):
            await reservations.tell_of_neighbours(session, one.actor, one.listing, *its)
    if written.wanted:
        for _, codes_of in groupby(told.codes, key=itemgetter("reservation_id")):
            made = [AccessCode(state=CodeState.SCHEDULED, **code) for code in codes_of]
            await outcomes.announce(session, EventType.CODE_SCHEDULED, *made)
    return [one.arrival for one in new]


def _new(planner: Planner, arrival: Arrival, found: Found) -> _New | None:
    """None of a stay that somebody knows, or that there is more to say about; nor of any where its
    source was changed."""
    if found.known or found.source_changed or found.listing is None:
        return None
    columns = reservations.new_stay(arrival.source_id, arrival.booking, found.listing, arrival.now)
    if columns is None:
        return None
    stay = Window(columns["check_in_at"], columns["check_out_at"])
    locks = [door.lock for door in found.doors]
    wish = reservations.wish(planner, found.listing, locks, stay, None, arrival.now)
    return _New(arrival, found, found.listing, columns, wish) if wish else None


def _tell(told: Rows, planner: Planner, new: _New) -> None:
    """One stay's access codes, with one PIN for all doors that take it, and their operations."""
    arrival, window = new.arrival, new.wish.window
    listing_id, reservation_id = new.listing.id, new.columns["id"]
    due = due_times(window.starts_at, window.ends_at, new.wish.lead, arrival.now)
    told.stays.append(Stay(new.columns, new.found))
    told.events.append(
        {
            "source_id": arrival.source_id,
            "event_id": arrival.event_id,
            "type": arrival.type,
            "body": arrival.body,
            "body_sha256": arrival.body_sha256,
            "reservation_id": reservation_id,
            "listing_id": listing_id,
        }
    )
    about = {"actor": new.actor, "reservation_id": reservation_id}
    told.audit.append(
        {
            **about,
            "event": f"reservation:{new.columns['status']}",
            "detail": {"event_id": arrival.booking.event_id},
        }
    )
    doors = {door.lock.id: door for door in new.found.doors}
    detail = {
        "starts_at": window.starts_at.isoformat(),
        "ends_at": window.ends_at.isoformat(),
        "generate_at": due.generate_at.isoformat(),
    }
    for length, locks in codes.by_length(new.wish.locks.values()):
        ids = [doors[lock.id].code_id for lock in locks]
        told.codes += codes.new_rows(
            planner.sealer, reservation_id, ids, locks, window, pins.choose(length)
        )
    for door in new.found.doors:
        told.audit.append(
            {
                **about,
                "event": "code:scheduled",
                "access_code_id": door.code_id,
                "lock_id": door.lock.id,
                "detail": detail,
            }
        )
        told.operations += [
            {
                "id": id_,
                "access_code_id": door.code_id,
                "kind": kind,
                "queue": alarms.QUEUES[kind],
                "priority": alarms.urgency(kind, due_at, window),
                "due_at": due_at,
                "lock_id": door.lock.id,
                "listing_id": listing_id,
            }
            for kind, id_, due_at in (
                (OperationKind.GENERATE, door.generate_id, due.generate_at),
                (OperationKind.REVOKE, door.revoke_id, due.revoke_at),
            )
        ]
