"""What stays that nobody knew write down, for many of them at once: two round trips.

Spoken to the driver itself, whose pipeline sends several statements at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from pinqueue.db import Session, driver_connection
from pinqueue.lifecycle import EventType
from pinqueue.models import Listing, Lock
from pinqueue.store.neighbours import NEAR, NEIGHBOURS, Neighbours, neighbours_in

PATIENCE = timedelta(milliseconds=50)
"""For a row that somebody holds: who waits for it longer waits alone."""

_LISTING = [column.name for column in Listing.__table__.columns]


@dataclass(frozen=True)
class Asked:
    """What decides whether a telling is of a new stay."""

    source_id: str
    source_version: str
    """As it was when it proved that it tells this."""
    event_id: str
    reservation_id: str
    listing_id: str
    """The sender's own id of it."""


@dataclass(frozen=True)
class Door:
    """A lock of a listing, with ids for the access code it may get and for its operations."""

    lock: Lock
    code_id: int
    generate_id: int
    revoke_id: int


@dataclass(frozen=True)
class Found:
    listing: Listing | None
    version: str | None
    """Another one when the listing was changed."""
    doors: list[Door]
    known: bool
    """Whether the event came before, or the stay is one already."""
    source_changed: bool


HURRY = b"""
    SELECT set_config('lock_timeout', %(patience)s, true),
           set_config('plan_cache_mode', 'force_generic_plan', true),
           set_config('enable_seqscan', 'off', true)
"""
"""Each statement is planned once for a connection. One that was planned when the tables were empty
must not read them from end to end ever after: each finds its rows by an index, however few."""

# So written that locks are looked up one by one: no plan can begin with all of them.
_LOCKS = """
    FROM listing_locks, LATERAL (
        SELECT id, protocol FROM locks WHERE id = listing_locks.lock_id OFFSET 0
    ) lock
    WHERE listing_locks.listing_id = listing.id
"""

FIND = f"""
    SELECT listing.version, event.id IS NOT NULL OR stay.id IS NOT NULL AS known,
           source.version IS DISTINCT FROM asked.source_version AS source_changed, (
               SELECT json_agg(
                   json_build_array(
                       lock.id, lock.protocol, nextval('access_codes_id_seq'),
                       nextval('operations_id_seq'), nextval('operations_id_seq')
                   ) ORDER BY lock.id
               ) {_LOCKS}
           ) AS doors,
           {", ".join(f"listing.{column}" for column in _LISTING)}
    FROM unnest(
             %(sources)s::text[], %(versions)s::text[], %(events)s::text[], %(stays)s::text[],
             %(listings)s::text[]
         ) WITH ORDINALITY
         asked (source_id, source_version, event_id, stay_id, listing_id, place)
    LEFT JOIN LATERAL (
        SELECT xmin::text AS version FROM sources WHERE id = asked.source_id LIMIT 1
    ) source ON true
    LEFT JOIN LATERAL (
        SELECT id FROM webhook_events
        WHERE source_id = asked.source_id AND event_id = asked.event_id LIMIT 1
    ) event ON true
    LEFT JOIN LATERAL (SELECT id FROM reservations WHERE id = asked.stay_id LIMIT 1) stay ON true
    LEFT JOIN LATERAL (
        SELECT *, xmin::text AS version FROM listings
        WHERE id IN (asked.source_id || ':' || asked.listing_id, asked.listing_id)
        ORDER BY id = asked.listing_id LIMIT 1
    ) listing ON true
    ORDER BY place
""".encode()  # noqa: S608  # the names of our own columns


async def find(session: Session, asked: Sequence[Asked]) -> list[Found]:
    """What there is of each, in that order. Nothing of it is held."""
    connection = await driver_connection(session)
    async with connection.pipeline():
        await connection.execute(
            HURRY, {"patience": f"{PATIENCE / timedelta(milliseconds=1):.0f}ms"}
        )
        found = await connection.execute(
            FIND,
            {
                "sources": [one.source_id for one in asked],
                "versions": [one.source_version for one in asked],
                "events": [one.event_id for one in asked],
                "stays": [one.reservation_id for one in asked],
                "listings": [one.listing_id for one in asked],
            },
        )
    return [
        Found(
            _listing(*columns) if version is not None else None,
            version,
            [Door(_lock(id_, protocol), *ids) for id_, protocol, *ids in doors or ()],
            known,
            source_changed,
        )
        for version, known, source_changed, doors, *columns in await found.fetchall()
    ]


@lru_cache(maxsize=1000)  # of a listing there are many stays
def _listing(*columns: Any) -> Listing:
    """To be read only."""
    return Listing(**dict(zip(_LISTING, columns, strict=True)))


@lru_cache(maxsize=1000)
def _lock(id_: str, protocol: str) -> Lock:
    return Lock(id=id_, protocol=protocol)


@dataclass(frozen=True)
class Stay:
    """A reservation that is to be written down."""

    columns: Mapping[str, Any]
    found: Found
    """What its listing was like."""


@dataclass
class Rows:
    """What stays write down."""

    stays: list[Stay] = field(default_factory=list)
    codes: list[dict[str, Any]] = field(default_factory=list)
    operations: list[dict[str, Any]] = field(default_factory=list)
    """Each with what its job and its record need besides."""
    events: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Written:
    whole: bool
    """Whether everything was as it was found, and is written down."""
    neighbours: Neighbours
    wanted: bool
    """Whether an endpoint wants to be told."""


_INSERT_RESERVATIONS = b"""
    INSERT INTO reservations (id, source_id, listing_id, status, check_in_at, check_out_at,
                              guest_name, guest_phone, other_id, told, updated_at)
    SELECT * FROM json_to_recordset(%(reservations)s::json) AS told (
        id text, source_id text, listing_id text, status text, check_in_at timestamptz,
        check_out_at timestamptz, guest_name text, guest_phone text, other_id text, told jsonb,
        updated_at timestamptz
    )
    ON CONFLICT (id) DO NOTHING
"""

DOORS = f"""
    SELECT asked.id, listing.version, (
        SELECT coalesce(json_agg(json_build_array(lock.id, lock.protocol) ORDER BY lock.id), '[]')
        {_LOCKS}
    )
    FROM unnest(%(listings)s::text[]) asked (id), LATERAL (
        SELECT id, xmin::text AS version FROM listings WHERE id = asked.id OFFSET 0
    ) listing
""".encode()  # noqa: S608  # our own text

_INSERT_REST = b"""
    WITH code AS (
        INSERT INTO access_codes (id, reservation_id, lock_id, state, starts_at, ends_at,
                                  remote_name, pin_sealed, pin_fingerprint)
        SELECT id, reservation_id, lock_id, 'scheduled', starts_at, ends_at,
               remote_name, pin_sealed, pin_fingerprint
        FROM json_to_recordset(%(codes)s::json) AS told (
            id bigint, reservation_id text, lock_id text, starts_at timestamptz,
            ends_at timestamptz, remote_name text, pin_sealed bytea, pin_fingerprint bytea
        )
        ON CONFLICT (pin_fingerprint) DO NOTHING RETURNING id
    ), planned AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            json_to_recordset(%(operations)s::json) AS (
                id bigint, access_code_id bigint, kind text, queue text, priority integer,
                due_at timestamptz, lock_id text, listing_id text
            )
        ) WITH ORDINALITY told (id, access_code_id, kind, queue, priority, due_at, lock_id,
                                listing_id, place)
    ), deferred AS MATERIALIZED (
        SELECT id, place
        FROM unnest(procrastinate_defer_jobs_v1(ARRAY(
            SELECT ROW(queue, queue, priority, NULL, NULL,
                       jsonb_build_object('operation_id', id), due_at
                   )::procrastinate_job_to_defer_v1
            FROM planned ORDER BY place
        ))) WITH ORDINALITY job (id, place)
    ), operation AS (
        INSERT INTO operations (id, access_code_id, kind, due_at, next_at, job_id)
        SELECT planned.id, access_code_id, kind, due_at, due_at, deferred.id
        FROM planned JOIN deferred USING (place)
    ), record AS (
        INSERT INTO job_records (job_id, operation_id, queue, task, scheduled_at, next_at,
                                 lock_id, listing_id)
        SELECT deferred.id, planned.id, queue, queue, due_at, due_at, lock_id, listing_id
        FROM planned JOIN deferred USING (place)
    ), event AS (
        INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome,
                                    reservation_id, listing_id)
        SELECT source_id, event_id, body_sha256, type, body, 'accepted', reservation_id, listing_id
        FROM json_to_recordset(%(events)s::json) AS told (
            source_id text, event_id text, body_sha256 bytea, type text, body jsonb,
            reservation_id text, listing_id text
        )
        ON CONFLICT (source_id, event_id) DO NOTHING RETURNING id
    ), audit AS (
        INSERT INTO audit_events (actor, event, reservation_id, access_code_id, lock_id, detail)
        SELECT actor, event, reservation_id, access_code_id, lock_id, detail
        FROM json_to_recordset(%(audit)s::json) AS told (
            actor text, event text, reservation_id text, access_code_id bigint, lock_id text,
            detail jsonb
        )
    )
    SELECT (SELECT count(*) FROM code), (SELECT count(*) FROM event),
           EXISTS (SELECT FROM endpoints WHERE enabled AND %(scheduled)s = ANY(events))
"""


async def write(session: Session, told: Rows) -> Written:
    """Who changes one of their listings holds it, and is waited for: so what a listing has is read
    again after that."""
    stays, scheduled = [stay.columns for stay in told.stays], EventType.CODE_SCHEDULED
    listings = {stay.columns["listing_id"]: stay.found for stay in told.stays}
    rest = {name: _json(getattr(told, name)) for name in ("codes", "operations", "events", "audit")}
    connection = await driver_connection(session)
    async with connection.pipeline():
        inserted = await connection.execute(_INSERT_RESERVATIONS, {"reservations": _json(stays)})
        doors = await connection.execute(DOORS, {"listings": list(listings)})
        written = await connection.execute(_INSERT_REST, {**rest, "scheduled": scheduled})
        near = await connection.execute(NEIGHBOURS, {"ids": [stay["id"] for stay in stays], **NEAR})
    ((codes, events, wanted),) = await written.fetchall()
    as_found = {
        (id_, found.version, *((door.lock.id, door.lock.protocol) for door in found.doors))
        for id_, found in listings.items()
    }
    as_now = {(id_, version, *map(tuple, locks)) for id_, version, locks in await doors.fetchall()}
    counts = (inserted.rowcount, codes, events)
    return Written(
        as_now == as_found and counts == (len(stays), len(told.codes), len(told.events)),
        neighbours_in(await near.fetchall()),
        wanted,
    )


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, default=_as_text, ensure_ascii=False)


def _as_text(value: bytes | datetime) -> str:
    """As PostgreSQL reads it."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value.isoformat()
