"""New stays that are told at the same time, written down in one transaction.

Most of what senders tell is a stay that nobody knew, confirmed and whole. Alone it takes twenty
round trips; sixteen such together take eight. All else is for `reservations.receive`, and so is
whatever comes in between: then nothing of it was written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pinqueue import alarms, codes, logs, outcomes, pins, reservations, store
from pinqueue.db import Database, Session, is_away
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.models import AccessCode, Listing, Operation, Reservation
from pinqueue.patience import within
from pinqueue.reservations import Booking, Planner, Wish
from pinqueue.schedule import due_times
from pinqueue.store import arrivals as rows
from pinqueue.store.arrivals import Asked
from pinqueue.together import Together

log = logs.get(__name__)

BATCH_WITHIN = 1.0
"""Seconds. A connection that hangs must not hold up all that come after: they get another."""


@dataclass(frozen=True, eq=False)
class Arrival:
    """A webhook that tells a stay, proven to be from its source. Of two that tell the same one is a
    repeat: they are not equal."""

    source_id: str
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
        self._together: Together[Arrival, bool] = Together(self._take)

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
    listing: Listing
    version: str | None
    stay: Reservation


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
    await rows.hurry(session)
    found = await _new(session, planner, asked)
    if not found:
        return []
    stays = [vars(new.stay) for new in found]
    if await rows.insert_reservations(session, stays) < len(found):
        raise _Overtaken
    # Who changes a listing holds it, and was waited for: what it has is read only now.
    doors = await rows.doors(session, [new.listing.id for new in found])
    wishes: list[tuple[_New, Wish]] = []
    for new in found:
        its = doors[new.listing.id]
        wish = reservations.wish(planner, new.stay, new.listing, its.locks, new.arrival.now)
        if wish is None or its.version != new.version:
            raise _Overtaken
        wishes.append((new, wish))
    await _write_codes(session, planner, wishes)
    for actor, stays_of in _by_source(found).items():
        await reservations.tell_of_neighbours(session, actor, stays_of)
    return [new.arrival for new in found]


def _by_source(found: Sequence[_New]) -> dict[str, dict[str, Listing]]:
    stays: dict[str, dict[str, Listing]] = {}
    for new in found:
        stays.setdefault(f"source:{new.arrival.source_id}", {})[new.stay.id] = new.listing
    return stays


async def _new(session: Session, planner: Planner, asked: Sequence[Arrival]) -> list[_New]:
    """Those that are of a stay that nobody knows."""
    found = await rows.find(
        session,
        [
            Asked(
                one.source_id,
                one.event_id,
                one.booking.reservation_id,
                one.booking.listing_id or "",
            )
            for one in asked
        ],
    )
    new: list[_New] = []
    for arrival, its in zip(asked, found, strict=True):
        if its.known or its.listing is None:
            continue
        stay = reservations.new_stay(
            planner, arrival.source_id, arrival.booking, its.listing, arrival.now
        )
        if stay is not None:
            new.append(_New(arrival, its.listing, its.version, stay))
    return new


@dataclass
class _Rows:
    """What the stays of a batch write down besides themselves."""

    codes: list[dict[str, Any]] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    made: list[list[AccessCode]] = field(default_factory=list)
    """The access codes of each stay."""

    @property
    def owners(self) -> list[AccessCode]:
        """The code of each operation."""
        return [code for of_stay in self.made for code in of_stay for _ in OperationKind]


async def _write_codes(
    session: Session, planner: Planner, wishes: Sequence[tuple[_New, Wish]]
) -> None:
    code_ids, operation_ids = map(
        iter, await rows.new_ids(session, sum(len(wish.locks) for _, wish in wishes))
    )
    told = _Rows()
    for new, wish in wishes:
        _tell_stay(told, planner, new, wish, code_ids, operation_ids)
    records = await alarms.ring(session, told.operations, told.owners)
    written = await rows.write(
        session,
        codes=told.codes,
        operations=told.operations,
        events=[
            {
                **vars(new.arrival),
                "reservation_id": new.stay.id,
                "listing_id": new.stay.listing_id,
            }
            for new, _ in wishes
        ],
        audit=told.audit,
    )
    if (written.codes, written.events) != (len(told.codes), len(wishes)):
        raise _Overtaken
    await store.insert_job_records(session, records)
    if written.wanted:
        for of_stay in told.made:
            await outcomes.announce(session, EventType.CODE_SCHEDULED, *of_stay)


def _tell_stay(
    told: _Rows,
    planner: Planner,
    new: _New,
    wish: Wish,
    code_ids: Iterator[int],
    operation_ids: Iterator[int],
) -> None:
    """One stay's access codes, with one PIN for all doors that take it, and their operations."""
    due = due_times(wish.window.starts_at, wish.window.ends_at, wish.lead, new.arrival.now)
    about = {"actor": f"source:{new.arrival.source_id}", "reservation_id": new.stay.id}
    event = {"event_id": new.arrival.booking.event_id}
    told.audit.append({**about, "event": f"reservation:{new.stay.status}", "detail": event})
    columns = [
        row
        for length, doors in codes.by_length(wish.locks.values())
        for row in codes.new_rows(
            planner.sealer,
            new.stay.id,
            [next(code_ids) for _ in doors],
            doors,
            wish.window,
            pins.choose(length),
        )
    ]
    told.codes += columns
    told.made.append([AccessCode(state=CodeState.SCHEDULED, **row) for row in columns])
    for code in told.made[-1]:
        told.operations += [
            Operation(
                id=next(operation_ids), access_code_id=code.id, kind=kind, due_at=at, next_at=at
            )
            for kind, at in (
                (OperationKind.GENERATE, due.generate_at),
                (OperationKind.REVOKE, due.revoke_at),
            )
        ]
        detail = {
            "starts_at": wish.window.starts_at.isoformat(),
            "ends_at": wish.window.ends_at.isoformat(),
            "generate_at": due.generate_at.isoformat(),
        }
        told.audit.append(
            {
                **about,
                "event": "code:scheduled",
                "access_code_id": code.id,
                "lock_id": code.lock_id,
                "detail": detail,
            }
        )
