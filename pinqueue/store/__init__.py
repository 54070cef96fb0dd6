"""Every query and every guarded write. Each joins the caller's transaction; none commits.

What only the sweep asks is in `sweeping`, what people ask of the queues in `queue`, what outgoing
webhooks need in `deliveries`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from pinqueue.db import Session, driver_connection
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import (
    CODE_ENDED,
    OPERATION_OPEN,
    CodeState,
    OperationKind,
    OperationState,
    ReservationStatus,
    sources_of,
)
from pinqueue.models import (
    AccessCode,
    ApiKey,
    AuditEvent,
    Base,
    Listing,
    ListingLock,
    Lock,
    Operation,
    Reservation,
    Source,
    Try,
    WebhookEvent,
)
from pinqueue.schedule import LONGEST_STAY, turns_over

T = TypeVar("T")
P = TypeVar("P", "ClaimedOperation", "ClaimedCode")

BUFFER_MOST = timedelta(days=1)
"""A PIN may open so long after check-out."""


def _held(query: Select[T]) -> Select[T]:
    """Its rows locked until the transaction ends, and read as they are now: a caller's session may
    know them from before it had to wait for somebody who changed them.

    FOR NO KEY UPDATE, since no id ever changes. A foreign key's check, which takes its rows in an
    order of its own, would wait for FOR UPDATE and so for somebody who waits for it.
    """
    return query.with_for_update(key_share=True).execution_options(populate_existing=True)


async def now(session: Session) -> datetime:
    """The database's clock, which alone decides what is due: workers' clocks differ."""
    moment = await session.scalar(select(func.now()))
    assert isinstance(moment, datetime)  # noqa: S101  # now() is never NULL
    return moment


async def record(
    session: Session,
    actor: str,
    event: str,
    *,
    code: AccessCode | None = None,
    reservation_id: str | None = None,
    operation_id: int | None = None,
    lock_id: str | None = None,
    **detail: Any,
) -> None:
    """Append an audit event. `detail` is JSON and never holds a PIN."""
    session.add(
        AuditEvent(
            actor=actor,
            event=event,
            reservation_id=code.reservation_id if code else reservation_id,
            access_code_id=code.id if code else None,
            lock_id=code.lock_id if code else lock_id,
            operation_id=operation_id,
            detail=detail,
        )
    )


# Webhook events


_SOURCE = [column.name for column in Source.__table__.columns]
_SOURCES = f"""
    SELECT now(), {", ".join(_SOURCE)} FROM sources
    WHERE %(ids)s::text[] IS NULL OR id = ANY(%(ids)s)
""".encode()  # noqa: S608  # the names of our own columns


async def sources_and_now(
    session: Session, ids: Collection[str] | None = None
) -> dict[str, tuple[Source, datetime]]:
    """Sources by name, to be read only, each with the transaction's time; all where `ids` is None.

    Asked of the driver itself: every webhook waits for it.
    """
    connection = await driver_connection(session)
    rows = await connection.execute(_SOURCES, {"ids": None if ids is None else list(ids)})
    found = [
        (Source(**dict(zip(_SOURCE, row, strict=True))), now) for now, *row in await rows.fetchall()
    ]
    return {source.id: (source, now) for source, now in found}


async def insert_event(
    session: Session, source_id: str, event_id: str, body_sha256: bytes, kind: str, body: Any
) -> int | None:
    """Its row's id; None when the source sent this event id before.

    The same event arriving twice at once waits here for the first to commit or roll back.
    """
    row_id: int | None = await session.scalar(
        insert(WebhookEvent)
        .values(
            source_id=source_id,
            event_id=event_id,
            body_sha256=body_sha256,
            type=kind,
            body=body,
            outcome="ignored",
        )
        .on_conflict_do_nothing(index_elements=["source_id", "event_id"])
        .returning(WebhookEvent.id)
    )
    return row_id


async def event_body_sha256(session: Session, source_id: str, event_id: str) -> bytes | None:
    digest: bytes | None = await session.scalar(
        select(WebhookEvent.body_sha256).filter_by(source_id=source_id, event_id=event_id)
    )
    return digest


async def event_for_update(session: Session, source_id: str, event_id: str) -> WebhookEvent:
    """An event by the sender's id for it, held against whoever else would change it."""
    found = await session.scalars(
        _held(select(WebhookEvent).filter_by(source_id=source_id, event_id=event_id))
    )
    return found.one()


async def set_event_outcome(
    session: Session, event_row: int, outcome: str, reservation_id: str, listing_id: str | None
) -> None:
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == event_row)
        .values(outcome=outcome, reservation_id=reservation_id, listing_id=listing_id)
    )


async def sources_to_reconcile(session: Session, every: timedelta) -> Sequence[str]:
    """Sources with an API whose bookings were not compared for so long, the longest first."""
    return (
        await session.scalars(
            select(Source.id)
            .where(Source.api.is_not(None), Source.enabled, _not_reconciled_for(every))
            .order_by(Source.reconciled_at.nulls_first())
        )
    ).all()


async def claim_reconcile(session: Session, source_id: str, every: timedelta) -> Source | None:
    """The source, now ours to compare; None when another worker was first."""
    source: Source | None = await session.scalar(
        update(Source)
        .where(Source.id == source_id, _not_reconciled_for(every))
        .values(reconciled_at=func.now())
        .returning(Source)
    )
    return source


async def reconcile_again(session: Session, source_id: str, sooner: timedelta) -> None:
    """Have a source compared sooner than its turn."""
    await session.execute(
        update(Source)
        .where(Source.id == source_id)
        .values(reconciled_at=Source.reconciled_at - sooner)
    )


async def set_api_error(session: Session, source_id: str, error: str | None) -> bool:
    """False when that is what it says already."""
    changed = await session.scalar(
        update(Source)
        .where(Source.id == source_id, Source.api_error.is_distinct_from(error))
        .values(api_error=error)
        .returning(Source.id)
    )
    return changed is not None


async def set_bookings_listed(session: Session, source_id: str, listed: int) -> None:
    await session.execute(
        update(Source).where(Source.id == source_id).values(bookings_listed=listed, list_fault=None)
    )


async def set_list_fault(session: Session, source_id: str, fault: str) -> None:
    await session.execute(update(Source).where(Source.id == source_id).values(list_fault=fault))


async def replace_api(session: Session, source_id: str, old: bytes, new: bytes) -> bool:
    """False where a person, or another run, has changed it since it was read: theirs stays."""
    changed = await session.scalar(
        update(Source)
        .where(Source.id == source_id, Source.api == old)
        .values(api=new)
        .returning(Source.id)
    )
    return changed is not None


def _not_reconciled_for(every: timedelta) -> ColumnElement[bool]:
    return or_(Source.reconciled_at.is_(None), Source.reconciled_at <= func.now() - every)


async def unmapped_events(session: Session, listing_id: str) -> Sequence[WebhookEvent]:
    """Events that wait for this listing to be set up, oldest first, held against other readers."""
    return (
        await session.scalars(
            _held(
                select(WebhookEvent)
                .where(
                    WebhookEvent.outcome == "unmapped",
                    or_(
                        WebhookEvent.listing_id == listing_id,
                        WebhookEvent.source_id + ":" + WebhookEvent.listing_id == listing_id,
                    ),
                )
                .order_by(WebhookEvent.id)
            )
        )
    ).all()


# Listings and reservations

_SET_UP = 0x50510001_00000000
"""The advisory lock that keeps adding a listing and finding none apart. See mutex.NAMESPACE."""


async def hold_set_up(session: Session) -> None:
    """Until this transaction ends, nobody finds that a listing is missing."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SET_UP})


async def await_set_up(session: Session) -> None:
    """Let a listing that is being added appear; one added later will find what we leave."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _SET_UP})


async def listing(session: Session, listing_id: str) -> Listing | None:
    return await session.get(Listing, listing_id)


async def first_listing(session: Session, ids: Sequence[str]) -> Listing | None:
    """The first of these that there is."""
    found = await session.scalars(select(Listing).where(Listing.id.in_(ids)))
    by_id = {listing.id: listing for listing in found}
    return next((by_id[id_] for id_ in ids if id_ in by_id), None)


async def locks_of_listing(session: Session, listing_id: str) -> Sequence[Lock]:
    return (
        await session.scalars(
            select(Lock)
            .join(ListingLock, ListingLock.lock_id == Lock.id)
            .where(ListingLock.listing_id == listing_id)
            .order_by(Lock.id)
        )
    ).all()


async def stays_at_lock(session: Session, lock_id: str) -> Sequence[Reservation]:
    """The stays that have or want a PIN on a lock, held for planning. Its listings are held before,
    FOR UPDATE: a booking of one waits at its foreign key, so none that is under way escapes."""
    listings = select(ListingLock.listing_id).where(ListingLock.lock_id == lock_id)
    await session.execute(
        select(Listing).where(Listing.id.in_(listings)).order_by(Listing.id).with_for_update()
    )
    live = select(AccessCode.reservation_id).where(
        AccessCode.lock_id == lock_id, AccessCode.state.not_in(CODE_ENDED)
    )
    wanted = Reservation.listing_id.in_(listings) & _ahead()
    found = await session.scalars(
        _held(
            select(Reservation)
            .where(or_(Reservation.id.in_(live), wanted))
            .order_by(Reservation.id)
        )
    )
    return found.all()


async def reservation_for_update(session: Session, reservation_id: str) -> Reservation | None:
    """The reservation, held so that events of one stay are applied one after the other."""
    row: Reservation | None = await session.scalar(
        _held(select(Reservation).where(Reservation.id == reservation_id))
    )
    return row


async def hold_listing_of(session: Session, reservation_id: str) -> None:
    """The listing of a stay, held before the stay is. Who changes a listing holds it first and then
    wants its stays; who changes a stay twice in a transaction has its foreign key checked at the
    second time, which wants the listing: each would wait for the other."""
    listing_id = select(Reservation.listing_id).where(Reservation.id == reservation_id)
    await session.execute(
        select(Listing.id)
        .where(Listing.id == listing_id.scalar_subquery())
        .with_for_update(read=True, key_share=True)
    )


async def hold_stays(session: Session, ids: Collection[str]) -> None:
    """Several reservations, held in the order in which everybody holds several."""
    await session.execute(
        _held(select(Reservation).where(Reservation.id.in_(ids)).order_by(Reservation.id))
    )


_EITHER_ID = 0x50510003
"""The advisory locks that keep two tellings of one stay apart, each by another of its ids."""


async def reservation_by_either_id(session: Session, ids: Sequence[str]) -> str | None:
    """Our id of the stay that is known by one of these; held until this transaction ends, so that
    no other makes a second stay of it. One that is known by both its ids comes first."""
    for id_ in sorted(ids):
        query = text("SELECT pg_advisory_xact_lock(:space, hashtext(:id))")
        await session.execute(query, {"space": _EITHER_ID, "id": id_})
    found: str | None = await session.scalar(
        select(Reservation.id)
        .where(or_(Reservation.id.in_(ids), Reservation.other_id.in_(ids)))
        .order_by(Reservation.other_id.is_(None), Reservation.updated_at.desc())
        .limit(1)
    )
    return found


async def rooms_of(session: Session, source_id: str, reservation_id: str) -> Sequence[str]:
    """The stays that are rooms of one reservation of a source, the cancelled ones left out."""
    mine = or_(
        Reservation.id == reservation_id,
        Reservation.id.startswith(f"{reservation_id}-", autoescape=True),
    )
    live = Reservation.status != ReservationStatus.CANCELLED
    return (
        await session.scalars(
            select(Reservation.id)
            .where(Reservation.source_id == source_id, mine, live)
            .order_by(Reservation.id)
        )
    ).all()


async def insert_reservation(session: Session, **values: Any) -> bool:
    """False when another transaction was first to create it."""
    inserted = await session.scalar(
        insert(Reservation)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(Reservation.id)
    )
    return inserted is not None


SAME_DAY = timedelta(hours=26)
"""Two instants of one local day lie no further apart, whatever its clock does."""


@dataclass(frozen=True)
class Neighbour:
    """Another confirmed stay of the same listing, as booked, and as granted by hand."""

    id: str
    check_in_at: datetime
    check_out_at: datetime
    starts_at: datetime
    ends_at: datetime


Neighbours: TypeAlias = dict[str, tuple[Neighbour, list[Neighbour]]]
"""By id, stays that share some time with others of their listing, or may share a day with either of
their ends: each as it is itself, and those others."""

NEIGHBOURS = b"""
    SELECT stay.id, stay.check_in_at, stay.check_out_at, stay.starts_at, stay.ends_at, other.*
    FROM unnest(%(ids)s::text[]) asked (id), LATERAL (
        SELECT id, listing_id, check_in_at, check_out_at,
               coalesce(early_check_in_at, check_in_at) AS starts_at,
               coalesce(late_check_out_at, check_out_at) AS ends_at
        FROM reservations WHERE id = asked.id OFFSET 0
    ) stay, LATERAL (
        SELECT id, check_in_at, check_out_at, granted.starts_at, granted.ends_at
        FROM reservations
        CROSS JOIN LATERAL (
            SELECT coalesce(early_check_in_at, check_in_at) AS starts_at,
                   coalesce(late_check_out_at, check_out_at) AS ends_at
        ) granted
        WHERE listing_id = stay.listing_id AND id <> stay.id AND status = 'confirmed'
          AND check_in_at > stay.starts_at - %(longest)s
          AND granted.starts_at < stay.ends_at + %(day)s
          AND granted.ends_at > stay.starts_at - %(day)s
        ORDER BY check_in_at LIMIT 20
    ) other
    ORDER BY stay.id, other.check_in_at
"""
"""Of these `ids`, with NEAR; `neighbours_in` reads it."""
NEAR = {"day": SAME_DAY, "longest": LONGEST_STAY + SAME_DAY}  # one that began earlier is over


async def neighbours(session: Session, ids: Sequence[str]) -> Neighbours:
    await session.flush()
    connection = await driver_connection(session)
    found = await connection.execute(NEIGHBOURS, {"ids": list(ids), **NEAR})
    return neighbours_in(await found.fetchall())


def neighbours_in(rows: Iterable[Sequence[Any]]) -> Neighbours:
    """What NEIGHBOURS has found."""
    found: Neighbours = {}
    for row in rows:
        own, other = Neighbour(*row[:5]), Neighbour(*row[5:])
        found.setdefault(own.id, (own, []))[1].append(other)
    return found


async def turnovers(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """Of these stays, each that ends on a day on which another of its listing begins, with that
    other."""
    found = await rows(
        session,
        """
        SELECT stay.id, stay.check_in_at, stay.check_out_at, listing.time_zone,
               other.id AS next_id, other.check_in_at AS next_check_in_at
        FROM reservations stay
        JOIN listings listing ON listing.id = stay.listing_id
        CROSS JOIN LATERAL (
            SELECT id, check_in_at FROM reservations
            WHERE listing_id = stay.listing_id AND status = 'confirmed' AND id <> stay.id
              AND check_in_at BETWEEN stay.check_out_at - CAST(:day AS interval)
                                  AND stay.check_out_at + CAST(:day AS interval)
            ORDER BY check_in_at LIMIT 10
        ) other
        WHERE stay.id = ANY(:ids) AND stay.status = 'confirmed'
        ORDER BY other.check_in_at DESC
        """,
        ids=list(ids),
        day=SAME_DAY,
    )
    # Not in SQL: PostgreSQL may know fewer names of time zones than we do.
    return {
        row["id"]: row["next_id"]
        for row in found
        if turns_over(
            row["check_in_at"],
            row["check_out_at"],
            row["next_check_in_at"],
            ZoneInfo(row["time_zone"]),
        )
    }


async def record_turnover(session: Session, actor: str, stay_id: str, next_id: str) -> None:
    """Audit that a stay ends on the day on which the next begins: once, however often the two are
    planned."""
    known = await session.scalar(
        select(AuditEvent.id)
        .where(
            AuditEvent.reservation_id == stay_id,
            AuditEvent.event == "reservation:turnover",
            AuditEvent.detail["next"].as_string() == next_id,
        )
        .limit(1)
    )
    if known is None:
        await record(session, actor, "reservation:turnover", reservation_id=stay_id, next=next_id)


async def stays_to_come(session: Session, source_id: str) -> int:
    """The confirmed stays of a source that have not ended."""
    count: int | None = await session.scalar(
        select(func.count()).where(
            Reservation.source_id == source_id,
            Reservation.status == ReservationStatus.CONFIRMED,
            Reservation.check_out_at > func.now(),
        )
    )
    return count or 0


async def upcoming_stays(session: Session, listing_id: str) -> Sequence[Reservation]:
    """The confirmed stays of a listing that have not ended, held for planning."""
    return (
        await session.scalars(
            _held(
                select(Reservation)
                .where(Reservation.listing_id == listing_id, _ahead())
                .order_by(Reservation.id)
            )
        )
    ).all()


def _ahead() -> ColumnElement[bool]:
    """Of a stay: it is confirmed and has not ended."""
    ends_at = func.coalesce(Reservation.late_check_out_at, Reservation.check_out_at)
    return (Reservation.status == ReservationStatus.CONFIRMED) & (
        ends_at > func.now() - BUFFER_MOST
    )


# Access codes


async def new_code_ids(session: Session, count: int) -> list[int]:
    """Ids for codes about to be inserted: a PIN is sealed for its row before there is one."""
    rows = await session.scalars(
        text("SELECT nextval('access_codes_id_seq') FROM generate_series(1, :count)"),
        {"count": count},
    )
    return list(rows)


async def insert_codes(session: Session, rows: list[dict[str, Any]]) -> list[AccessCode]:
    """In the order of their ids; without those whose PIN is in use, or was lately, on their lock.

    Another booking that has just taken such a PIN is waited for: it may yet roll back.
    """
    made = await session.scalars(
        insert(AccessCode)
        .values([{"state": CodeState.SCHEDULED, **row} for row in rows])
        .on_conflict_do_nothing(index_elements=["pin_fingerprint"])
        .returning(AccessCode)
    )
    return sorted(made, key=lambda code: code.id)


async def drop_codes(session: Session, codes: Sequence[AccessCode]) -> None:
    """Take back what was inserted in this very transaction."""
    await session.execute(delete(AccessCode).where(AccessCode.id.in_([code.id for code in codes])))


async def replace_pin(session: Session, code: AccessCode, **values: Any) -> bool:
    """Give a code other digits; False when they are in use, or were lately, on that lock."""
    try:
        async with session.begin_nested():
            await session.execute(
                update(AccessCode).where(AccessCode.id == code.id).values(**values)
            )
    except IntegrityError:
        return False
    await session.refresh(code)
    return True


async def unhashed_codes(session: Session, limit: int) -> Sequence[tuple[int, bytes]]:
    """Ids and sealed PINs of codes that are planned and have no hash yet, the nearest first."""
    rows = await session.execute(
        select(AccessCode.id, AccessCode.pin_sealed)
        .where(AccessCode.state == CodeState.SCHEDULED, AccessCode.pin_hash.is_(None))
        .order_by(AccessCode.starts_at)
        .limit(limit)
    )
    return [(code_id, sealed) for code_id, sealed in rows if sealed is not None]


async def keep_hash(session: Session, code_id: int, sealed: bytes, pin_hash: str) -> bool:
    """False where the code has other digits by now, or none, or a hash."""
    kept = await session.scalar(
        update(AccessCode)
        .where(
            AccessCode.id == code_id, AccessCode.pin_sealed == sealed, AccessCode.pin_hash.is_(None)
        )
        .values(pin_hash=pin_hash)
        .returning(AccessCode.id)
    )
    return kept is not None


async def live_codes(session: Session, reservation_id: str) -> Sequence[AccessCode]:
    """A stay's codes that are on a door or may yet be, each held until the transaction ends."""
    return (
        await session.scalars(
            _held(
                select(AccessCode)
                .where(AccessCode.reservation_id == reservation_id)
                .where(AccessCode.state.not_in(CODE_ENDED))
                .order_by(AccessCode.id)
            )
        )
    ).all()


async def live_codes_at_lock(session: Session, lock_id: str) -> Sequence[AccessCode]:
    """A lock's codes that are on its door or may yet be, each held until the transaction ends."""
    return (
        await session.scalars(
            _held(
                select(AccessCode)
                .where(AccessCode.lock_id == lock_id, AccessCode.state.not_in(CODE_ENDED))
                .order_by(AccessCode.id)
            )
        )
    ).all()


async def code_for_update(session: Session, access_code_id: int) -> AccessCode:
    found = await session.scalars(_held(select(AccessCode).where(AccessCode.id == access_code_id)))
    return found.one()


async def codes_for_update(session: Session, ids: Collection[int]) -> Sequence[AccessCode]:
    found = await session.scalars(
        _held(select(AccessCode).where(AccessCode.id.in_(ids)).order_by(AccessCode.id))
    )
    return found.all()


async def codes_with_open_operation(
    session: Session, ids: Collection[int], kind: OperationKind
) -> set[int]:
    """Which of these codes have one of that kind."""
    found = await session.scalars(
        select(Operation.access_code_id).where(
            Operation.access_code_id.in_(ids),
            Operation.kind == kind,
            Operation.state.in_(OPERATION_OPEN),
        )
    )
    return set(found)


async def move_code(session: Session, code: AccessCode, to: CodeState, **values: Any) -> None:
    """The one place where a code's state changes; StateChanged unless the move is allowed."""
    moved = await session.execute(
        update(AccessCode)
        .where(AccessCode.id == code.id, AccessCode.state.in_(sources_of(to)))
        .values(state=to, **values)
        .returning(AccessCode.id)
    )
    if moved.one_or_none() is None:
        raise StateChanged(f"access code {code.id} cannot become {to}: it is no longer as read")
    await session.refresh(code)


# Operations


async def insert_operation(
    session: Session, code: AccessCode, kind: OperationKind, due_at: datetime
) -> Operation:
    operation = Operation(access_code_id=code.id, kind=kind, due_at=due_at, next_at=due_at)
    session.add(operation)
    await session.flush()
    return operation


async def insert_operations(
    session: Session, codes: Sequence[AccessCode], kind: OperationKind, due_at: datetime
) -> list[Operation]:
    """One for each code."""
    operations = [
        Operation(access_code_id=code.id, kind=kind, due_at=due_at, next_at=due_at)
        for code in codes
    ]
    session.add_all(operations)
    await session.flush()
    return operations


async def open_operations(session: Session, code: AccessCode) -> dict[str, Operation]:
    """A code's open operations by kind, held until the transaction ends."""
    rows = await session.scalars(
        _held(
            select(Operation).where(
                Operation.access_code_id == code.id, Operation.state.in_(OPERATION_OPEN)
            )
        )
    )
    return {operation.kind: operation for operation in rows}


@dataclass(slots=True)
class ClaimedOperation:
    """Of an operation what a worker needs at the door, as it was when it was claimed. Plain: to
    make the row's object took longer than to claim it."""

    id: int
    kind: str
    epoch: int
    due_at: datetime
    first_claimed_at: datetime
    waits_for_room: bool
    last_error: str | None

    @classmethod
    def of(cls, operation: Operation) -> ClaimedOperation:
        return _plain(cls, operation)


@dataclass(slots=True)
class ClaimedCode:
    """The same of its access code."""

    id: int
    reservation_id: str
    lock_id: str
    state: str
    starts_at: datetime
    ends_at: datetime
    remote_name: str
    remote_id: int | None
    create_in_doubt_since: datetime | None
    pin_sealed: bytes | None
    pin_hash: str | None
    sent_at: datetime | None
    active_at: datetime | None

    @classmethod
    def of(cls, code: AccessCode) -> ClaimedCode:
        return _plain(cls, code)


def _plain(kind: type[P], row: Base) -> P:
    return kind(**{field.name: getattr(row, field.name) for field in fields(kind)})


@dataclass(frozen=True)
class Claimed:
    """What a worker works with: the rows as they were when it claimed the operation."""

    operation: ClaimedOperation
    code: ClaimedCode
    device_id: str
    protocol: str
    now: datetime


async def claim_operation(
    session: Session, operation_id: int, access_code_id: int, job_id: int | None
) -> tuple[Operation, AccessCode]:
    """Take an operation with a new epoch; StateChanged when it is closed or not due any more.

    Whoever held it with an older epoch can from now on record nothing.
    """
    # The code first, then its operations: everybody locks in this order, so nobody deadlocks.
    code = await code_for_update(session, access_code_id)
    operation = await session.scalar(
        update(Operation)
        .where(
            Operation.id == operation_id,
            Operation.state.in_(OPERATION_OPEN),
            Operation.next_at <= func.now(),
        )
        .values(
            state=OperationState.ACTIVE,
            epoch=Operation.epoch + 1,
            claimed_at=func.now(),
            first_claimed_at=func.coalesce(Operation.first_claimed_at, func.now()),
        )
        .returning(Operation)
    )
    if operation is None:
        raise StateChanged(f"operation {operation_id} is closed, or not due any more")
    await session.execute(
        update(Try)
        .where(Try.operation_id == operation_id, Try.outcome.is_(None))
        .values(outcome="rescued", finished_at=func.now())
    )
    session.add(Try(operation_id=operation_id, epoch=operation.epoch, job_id=job_id))
    return operation, code


async def claimed(
    session: Session, operation: Operation, code: AccessCode, now: datetime
) -> Claimed:
    """An operation that was claimed in this transaction, with what is known of its code by now."""
    lock = await session.get_one(Lock, code.lock_id)
    return Claimed(
        ClaimedOperation.of(operation),
        ClaimedCode.of(code),
        lock.device_id,
        lock.protocol,
        now,
    )


async def hold_claim(session: Session, claim: Claimed) -> tuple[Operation, AccessCode]:
    """The claimed rows as they are now; StateChanged unless the claim is still ours.

    Every write after a call to the lock begins here: a worker that slept through its own rescue
    finds another epoch and touches nothing.
    """
    code = await code_for_update(session, claim.code.id)
    operation = await session.scalar(
        _held(
            select(Operation).where(
                Operation.id == claim.operation.id,
                Operation.state == OperationState.ACTIVE,
                Operation.epoch == claim.operation.epoch,
            )
        )
    )
    if operation is None:
        raise StateChanged(f"operation {claim.operation.id} was taken over or is no longer wanted")
    return operation, code


def _waiting_for_room(lock_id: str) -> Select[int]:
    return (
        select(AccessCode.id)
        .join(Operation, Operation.access_code_id == AccessCode.id)
        .where(
            AccessCode.lock_id == lock_id,
            AccessCode.remote_id.is_(None),
            AccessCode.ends_at > func.now(),
            Operation.state.in_(OPERATION_OPEN),
            Operation.kind == OperationKind.GENERATE,
            Operation.waits_for_room,
        )
        .order_by(AccessCode.starts_at, AccessCode.id)
        .limit(1)
    )


async def nearest_arrival_waiting_for_room(session: Session, lock_id: str) -> int | None:
    """Of the access codes that found their lock full, the one whose stay begins first."""
    code_id: int | None = await session.scalar(_waiting_for_room(lock_id))
    return code_id


async def last_arrival_on_lock(session: Session, code: ClaimedCode) -> int | None:
    """Of the PINs on its lock whose stays have not begun, and begin later than this one's, the last
    to begin."""
    code_id: int | None = await session.scalar(
        select(AccessCode.id)
        .where(
            AccessCode.lock_id == code.lock_id,
            AccessCode.state.in_((CodeState.SENT, CodeState.ACTIVE)),
            AccessCode.starts_at > func.now(),
            tuple_(AccessCode.starts_at, AccessCode.id) > tuple_(code.starts_at, code.id),
        )
        .order_by(AccessCode.starts_at.desc(), AccessCode.id.desc())
        .limit(1)
    )
    return code_id


async def waiting_for_lock(session: Session, lock_id: str) -> list[tuple[int, str]]:
    """The access codes, each with the kind of its operation, that wait out the gap after a try in
    which their lock was out of reach, or had not yet done as it was told."""
    found = await session.execute(
        select(AccessCode.id, Operation.kind)
        .join(Operation, Operation.access_code_id == AccessCode.id)
        .where(
            AccessCode.lock_id == lock_id,
            Operation.state == OperationState.WAITING,
            Operation.first_claimed_at.is_not(None),
            Operation.failures == 0,
            ~Operation.waits_for_room,
            Operation.next_at > func.now(),
        )
        .order_by(AccessCode.id, Operation.kind)
    )
    return [(code_id, kind) for code_id, kind in found]


async def postpone_operation(
    session: Session, operation: Operation, next_at: datetime, *, lived: bool, **values: Any
) -> None:
    """active → waiting: it rings again at `next_at`. That its worker `lived` through it weighs
    against one that died: over weeks some restarts are no poison, and a poison does not get away
    because the cloud was in trouble in between."""
    rescues = max(operation.rescues - 1, 0) if lived else operation.rescues
    await _leave_active(
        session, operation, OperationState.WAITING, next_at=next_at, rescues=rescues, **values
    )


async def complete_operation(session: Session, operation: Operation) -> None:
    """active → completed."""
    await _leave_active(
        session, operation, OperationState.COMPLETED, finished_at=func.now(), last_error=None
    )


async def fail_operation(session: Session, operation: Operation, error: str) -> None:
    """waiting or active → failed: a person is needed."""
    await _set_operation(
        session,
        operation,
        OPERATION_OPEN,
        OperationState.FAILED,
        finished_at=func.now(),
        last_error=error,
    )


async def cancel_operation(session: Session, operation: Operation) -> None:
    """waiting or active → cancelled: a worker that is at it will find its claim gone."""
    await _set_operation(
        session, operation, OPERATION_OPEN, OperationState.CANCELLED, finished_at=func.now()
    )


async def _leave_active(
    session: Session, operation: Operation, state: OperationState, **values: Any
) -> None:
    await _set_operation(session, operation, {OperationState.ACTIVE}, state, **values)


async def _set_operation(
    session: Session, operation: Operation, expected: Any, state: OperationState, **values: Any
) -> None:
    done = await session.execute(
        update(Operation)
        .where(
            Operation.id == operation.id,
            Operation.epoch == operation.epoch,
            Operation.state.in_(expected),
        )
        .values(state=state, claimed_at=None, **values)
        .returning(Operation.id)
    )
    if done.one_or_none() is None:
        raise StateChanged(f"operation {operation.id} is no longer as read")
    await session.refresh(operation)


async def end_try(session: Session, claim: Claimed, outcome: str, error: str | None = None) -> None:
    await session.execute(
        update(Try)
        .where(
            Try.operation_id == claim.operation.id,
            Try.epoch == claim.operation.epoch,
            Try.outcome.is_(None),
        )
        .values(outcome=outcome, error=error, finished_at=func.clock_timestamp())
    )


# Jobs


async def insert_job_records(session: Session, told: list[dict[str, Any]]) -> None:
    """`told` gives the job's id, operation, queue, task and planned time; the rest is looked up."""
    columns = ("job_id", "operation_id", "queue", "task", "scheduled_at")
    await session.execute(
        text("""
            INSERT INTO job_records
                (job_id, operation_id, queue, task, scheduled_at, next_at, lock_id, listing_id)
            SELECT told.*, told.scheduled_at, code.lock_id, stay.listing_id
            FROM unnest(
                CAST(:job_id AS bigint[]), CAST(:operation_id AS bigint[]), CAST(:queue AS text[]),
                CAST(:task AS text[]), CAST(:scheduled_at AS timestamptz[])
            ) told (job_id, operation_id, queue, task, scheduled_at)
            JOIN operations operation ON operation.id = told.operation_id
            JOIN access_codes code ON code.id = operation.access_code_id
            JOIN reservations stay ON stay.id = code.reservation_id
        """),
        {column: [row[column] for row in told] for column in columns},
    )


LONGEST_QUEUE = timedelta(minutes=5)
"""At a lock cloud. Longer none is, as long as the clock goes on."""


async def take_turns(session: Session, project: str, calls: int, gap: float) -> float:
    """Take so many turns at a lock cloud, each so many seconds after the one before, whoever took
    that; returns the seconds until the first. A clock that was set back stops nobody for long."""
    wait: float = await session.scalar(
        text("""
            INSERT INTO paces AS pace (project, next_at)
            VALUES (:project, clock_timestamp() + CAST(:taken AS interval))
            ON CONFLICT (project) DO UPDATE
            SET next_at = CAST(:taken AS interval) + CASE
                WHEN pace.next_at - clock_timestamp() BETWEEN interval '0' AND :most
                THEN pace.next_at ELSE clock_timestamp() END
            RETURNING extract(epoch FROM next_at - CAST(:taken AS interval) - clock_timestamp())
        """),
        {"project": project, "taken": timedelta(seconds=calls * gap), "most": LONGEST_QUEUE},
    )
    return float(wait)


# Set-up


async def lock_of_device(session: Session, device_id: str) -> Lock | None:
    lock: Lock | None = await session.scalar(select(Lock).filter_by(device_id=device_id))
    return lock


async def key_by_name(session: Session, name: str) -> ApiKey | None:
    key: ApiKey | None = await session.scalar(_held(select(ApiKey).filter_by(name=name)))
    return key


KEY_USE_EVERY = timedelta(minutes=1)


async def api_key(session: Session, key_id: str) -> ApiKey | None:
    return await session.get(ApiKey, key_id)


async def note_key_use(session: Session, key: ApiKey) -> None:
    """Keep when a key was last used, to the minute. Nobody waits for another who notes the same."""
    stale = (
        select(ApiKey.id)
        .where(
            ApiKey.id == key.id,
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= func.now() - KEY_USE_EVERY),
        )
        .with_for_update(skip_locked=True)
    )
    await session.execute(
        update(ApiKey).where(ApiKey.id.in_(stale)).values(last_used_at=func.now())
    )


# What people ask


async def rows(session: Session, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """A read-only question in SQL, as dicts."""
    result = await session.execute(text(query), parameters)
    return [dict(row) for row in result.mappings()]
