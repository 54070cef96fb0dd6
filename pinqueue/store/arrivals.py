"""What stays that nobody knew write down: for many of them in one statement each.

A web process plans these statements anew each time: a plan from when the tables were empty would
read them from end to end for each booking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from pinqueue.db import Session
from pinqueue.lifecycle import EventType
from pinqueue.models import Listing, Lock, Operation

PATIENCE = timedelta(milliseconds=50)
"""For a row that somebody holds: who waits for it longer waits alone."""

_LISTING = [column.name for column in Listing.__table__.columns]


@dataclass(frozen=True)
class Asked:
    """What decides whether a telling is of a new stay."""

    source_id: str
    event_id: str
    reservation_id: str
    listing_id: str
    """The sender's own id of it."""


@dataclass(frozen=True)
class Found:
    listing: Listing | None
    version: str | None
    """Another one when the listing was changed."""
    known: bool
    """Whether the event came before, or the stay is one already."""


async def hurry(session: Session) -> None:
    await session.execute(
        text("""
            SELECT set_config('lock_timeout', :patience, true),
                   set_config('plan_cache_mode', 'force_custom_plan', true)
        """),
        {"patience": f"{PATIENCE / timedelta(milliseconds=1):.0f}ms"},
    )


_FIND = text(f"""
    SELECT listing.version, event.id IS NOT NULL OR stay.id IS NOT NULL AS known,
           {", ".join(f"listing.{column}" for column in _LISTING)}
    FROM unnest(CAST(:sources AS text[]), CAST(:events AS text[]), CAST(:stays AS text[]),
                CAST(:listings AS text[]))
         WITH ORDINALITY asked (source_id, event_id, stay_id, listing_id, place)
    LEFT JOIN LATERAL (
        SELECT id FROM webhook_events
        WHERE source_id = asked.source_id AND event_id = asked.event_id LIMIT 1
    ) event ON true
    LEFT JOIN LATERAL (SELECT id FROM reservations WHERE id = asked.stay_id LIMIT 1) stay ON true
    LEFT JOIN LATERAL (
        SELECT *, xmin::text AS version FROM listings
        WHERE id IN (asked.source_id || '\\:' || asked.listing_id, asked.listing_id)
        ORDER BY id = asked.listing_id LIMIT 1
    ) listing ON true
    ORDER BY place
""")  # noqa: S608  # the names of our own columns


async def find(session: Session, asked: Sequence[Asked]) -> list[Found]:
    """What there is of each, in that order. Nothing of it is held."""
    rows = await session.execute(
        _FIND,
        {
            "sources": [one.source_id for one in asked],
            "events": [one.event_id for one in asked],
            "stays": [one.reservation_id for one in asked],
            "listings": [one.listing_id for one in asked],
        },
    )
    return [
        Found(
            Listing(**dict(zip(_LISTING, columns, strict=True))) if version is not None else None,
            version,
            known,
        )
        for version, known, *columns in rows
    ]


async def insert_reservations(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """How many, without those that somebody else was first to insert. Waits for who changes one of
    their listings."""
    result = await session.execute(
        text("""
            INSERT INTO reservations (id, source_id, listing_id, status, check_in_at, check_out_at,
                                      guest_name, guest_phone, other_id, told, updated_at)
            SELECT * FROM unnest(
                CAST(:id AS text[]), CAST(:source_id AS text[]), CAST(:listing_id AS text[]),
                CAST(:status AS text[]), CAST(:check_in_at AS timestamptz[]),
                CAST(:check_out_at AS timestamptz[]), CAST(:guest_name AS text[]),
                CAST(:guest_phone AS text[]), CAST(:other_id AS text[]), CAST(:told AS jsonb[]),
                CAST(:updated_at AS timestamptz[])
            ) ON CONFLICT (id) DO NOTHING RETURNING id
        """),
        _columns(
            rows,
            *("id", "source_id", "listing_id", "status", "check_in_at", "check_out_at"),
            *("guest_name", "guest_phone", "other_id", "told", "updated_at"),
        ),
    )
    return len(result.all())


@dataclass(frozen=True)
class Doors:
    """The locks of a listing, by its id."""

    version: str
    """Of the listing."""
    locks: list[Lock]


async def doors(session: Session, listing_ids: Sequence[str]) -> dict[str, Doors]:
    found: dict[str, Doors] = {}
    rows = await session.execute(
        text("""
            SELECT listing.id, listing.xmin::text AS version, lock.id AS lock_id, lock.protocol
            FROM unnest(CAST(:ids AS text[])) asked (id)
            JOIN listings listing ON listing.id = asked.id
            LEFT JOIN LATERAL (
                SELECT locks.* FROM listing_locks JOIN locks ON locks.id = listing_locks.lock_id
                WHERE listing_locks.listing_id = listing.id ORDER BY locks.id OFFSET 0
            ) lock ON true
        """),
        {"ids": list(listing_ids)},
    )
    for id_, version, lock_id, protocol in rows:
        of_listing = found.setdefault(id_, Doors(version, []))
        if lock_id is not None:
            of_listing.locks.append(Lock(id=lock_id, protocol=protocol))
    return found


async def new_ids(session: Session, codes: int) -> tuple[list[int], list[int]]:
    """Ids for so many access codes, and for two operations of each."""
    rows = await session.execute(
        text("""
            SELECT nextval(CASE WHEN n <= :codes THEN 'access_codes_id_seq'
                                ELSE 'operations_id_seq' END::regclass)
            FROM generate_series(1, 3 * CAST(:codes AS integer)) n
        """),
        {"codes": codes},
    )
    ids = [id_ for (id_,) in rows]
    return ids[:codes], ids[codes:]


@dataclass(frozen=True)
class Written:
    codes: int
    """Without those whose PIN is in use, or was lately, on their lock."""
    events: int
    """Without those that came before."""
    wanted: bool
    """Whether an endpoint wants to be told."""


_WRITE = text("""
    WITH code AS (
        INSERT INTO access_codes (id, reservation_id, lock_id, state, starts_at, ends_at,
                                  remote_name, pin_sealed, pin_fingerprint)
        SELECT id, reservation_id, lock_id, 'scheduled', starts_at, ends_at,
               remote_name, pin_sealed, pin_fingerprint
        FROM unnest(
            CAST(:code_id AS bigint[]), CAST(:code_reservation_id AS text[]),
            CAST(:code_lock_id AS text[]), CAST(:code_starts_at AS timestamptz[]),
            CAST(:code_ends_at AS timestamptz[]), CAST(:code_remote_name AS text[]),
            CAST(:code_pin_sealed AS bytea[]), CAST(:code_pin_fingerprint AS bytea[])
        ) told (id, reservation_id, lock_id, starts_at, ends_at, remote_name, pin_sealed,
                pin_fingerprint)
        ON CONFLICT (pin_fingerprint) DO NOTHING RETURNING id
    ), operation AS (
        INSERT INTO operations (id, access_code_id, kind, due_at, next_at, job_id)
        SELECT id, access_code_id, kind, due_at, due_at, job_id
        FROM unnest(
            CAST(:operation_id AS bigint[]), CAST(:operation_access_code_id AS bigint[]),
            CAST(:operation_kind AS text[]), CAST(:operation_due_at AS timestamptz[]),
            CAST(:operation_job_id AS bigint[])
        ) told (id, access_code_id, kind, due_at, job_id)
    ), event AS (
        INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome,
                                    reservation_id, listing_id)
        SELECT source_id, event_id, body_sha256, type, body, 'accepted', reservation_id, listing_id
        FROM unnest(
            CAST(:event_source_id AS text[]), CAST(:event_event_id AS text[]),
            CAST(:event_body_sha256 AS bytea[]), CAST(:event_type AS text[]),
            CAST(:event_body AS jsonb[]), CAST(:event_reservation_id AS text[]),
            CAST(:event_listing_id AS text[])
        ) told (source_id, event_id, body_sha256, type, body, reservation_id, listing_id)
        ON CONFLICT (source_id, event_id) DO NOTHING RETURNING id
    ), told AS (
        INSERT INTO audit_events (actor, event, reservation_id, access_code_id, lock_id, detail)
        SELECT actor, event, reservation_id, access_code_id, lock_id, detail
        FROM unnest(
            CAST(:audit_actor AS text[]), CAST(:audit_event AS text[]),
            CAST(:audit_reservation_id AS text[]), CAST(:audit_access_code_id AS bigint[]),
            CAST(:audit_lock_id AS text[]), CAST(:audit_detail AS jsonb[])
        ) told (actor, event, reservation_id, access_code_id, lock_id, detail)
    )
    SELECT (SELECT count(*) FROM code), (SELECT count(*) FROM event),
           EXISTS (SELECT FROM endpoints WHERE enabled AND :scheduled = ANY(events))
""")


async def write(
    session: Session,
    *,
    codes: Sequence[Mapping[str, Any]],
    operations: Sequence[Operation],
    events: Sequence[Mapping[str, Any]],
    audit: Sequence[Mapping[str, Any]],
) -> Written:
    """All that goes with reservations that were just inserted, but the jobs that ring."""
    row = await session.execute(
        _WRITE,
        {
            **_columns(codes, *_CODE, prefix="code_"),
            **_columns([vars(one) for one in operations], *_OPERATION, prefix="operation_"),
            **_columns(events, *_EVENT, prefix="event_"),
            **_columns(audit, *_AUDIT, prefix="audit_"),
            "scheduled": EventType.CODE_SCHEDULED,
        },
    )
    return Written(*row.one())


_CODE = (
    *("id", "reservation_id", "lock_id", "starts_at", "ends_at"),
    *("remote_name", "pin_sealed", "pin_fingerprint"),
)
_OPERATION = ("id", "access_code_id", "kind", "due_at", "job_id")
_EVENT = ("source_id", "event_id", "body_sha256", "type", "body", "reservation_id", "listing_id")
_AUDIT = ("actor", "event", "reservation_id", "access_code_id", "lock_id", "detail")


def _columns(
    rows: Sequence[Mapping[str, Any]], *names: str, prefix: str = ""
) -> dict[str, list[Any]]:
    """An array for each column; what is no scalar is JSON."""
    return {
        prefix + name: [
            json.dumps(row.get(name)) if isinstance(row.get(name), dict | list) else row.get(name)
            for row in rows
        ]
        for name in names
    }
