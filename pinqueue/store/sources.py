"""Webhook senders: their secrets, and when their bookings were last compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select, text, update

from pinqueue.db import Session, driver_connection
from pinqueue.models import Source

_SOURCE = [column.name for column in Source.__table__.columns]
_SOURCES = f"""
    SELECT now(), xmin::text, {", ".join(_SOURCE)} FROM sources
    WHERE %(ids)s::text[] IS NULL OR id = ANY(%(ids)s)
""".encode()  # noqa: S608  # the names of our own columns


@dataclass(frozen=True)
class SeenSource:
    """A source as it was, to be read only."""

    source: Source
    version: str
    """Another one when it was changed."""
    at: datetime
    """When, by the database's clock."""


async def seen_sources(
    session: Session, ids: Collection[str] | None = None
) -> dict[str, SeenSource]:
    """Sources by name; all where `ids` is None.

    Asked of the driver itself: webhooks wait for it.
    """
    connection = await driver_connection(session)
    rows = await connection.execute(_SOURCES, {"ids": None if ids is None else list(ids)})
    found = [
        SeenSource(Source(**dict(zip(_SOURCE, row, strict=True))), version, now)
        for now, version, *row in await rows.fetchall()
    ]
    return {seen.source.id: seen for seen in found}


async def is_as_seen(session: Session, seen: SeenSource) -> bool:
    """Whether nobody has changed a source since."""
    version = await session.scalar(_VERSION, {"id": seen.source.id})
    return bool(version == seen.version)


_VERSION = text("SELECT xmin::text FROM sources WHERE id = :id")


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
