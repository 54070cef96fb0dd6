"""Stays of one listing that share a day: what their PINs need to know of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy import select

from pinqueue.db import Session, driver_connection
from pinqueue.models import AuditEvent
from pinqueue.schedule import LONGEST_STAY, turns_over
from pinqueue.store import record, rows

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
